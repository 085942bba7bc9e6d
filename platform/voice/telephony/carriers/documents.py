"""Documents of verbs, as carriers read them."""

from __future__ import annotations

import xml.etree.ElementTree as ET


def verb(tag: str, *inner: ET.Element, text: str = "", **attributes: str) -> ET.Element:
    element = ET.Element(tag, attributes)
    element.text = text or None
    element.extend(inner)
    return element


def document(*verbs: ET.Element) -> str:
    return ET.tostring(verb("Response", *verbs), encoding="unicode", xml_declaration=True)
