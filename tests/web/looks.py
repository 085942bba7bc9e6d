"""What is wrong with a page's looks, asked of a real browser."""

from __future__ import annotations

from playwright.sync_api import Page

LEAST_CONTRAST = 4.5
"""Of text against what is behind it: WCAG 2.2, level AA."""

STICKS_OUT = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
FAINT_TEXTS = """(least) => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgba(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const words = texts.currentNode.textContent.trim(), element = texts.currentNode.parentElement;
    const isSeen = element.checkVisibility() && !element.closest("script, style, :disabled, .visually-hidden, .skip");
    if (!words || !isSeen) continue;
    const shades = [rgba(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
    const contrast = (shades[0] + 0.05) / (shades[1] + 0.05);
    if (contrast < least) faint.push(`${words.slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""


def complaints_of(page: Page) -> list[str]:
    """Return a list that grows by what the browser complains of."""
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda problem: complaints.append(str(problem)))
    return complaints


def assert_looks_right(page: Page, complaints: list[str]) -> None:
    """Check that a page fits its window, has one heading, can be read, and made the browser complain of nothing."""
    assert page.evaluate(STICKS_OUT) <= 0, f"{page.url} is wider than its window"
    assert page.locator("h1").count() == 1, page.url
    assert page.evaluate(FAINT_TEXTS, LEAST_CONTRAST) == [], page.url
    assert complaints == [], page.url
