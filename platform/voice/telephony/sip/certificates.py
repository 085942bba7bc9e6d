"""TLS of SIP: our own certificate, and whose certificates we believe where we connect."""

from __future__ import annotations

import ssl

from config import env
from voice.telephony.sip.options import SipOptions


def own_certificate(options: SipOptions) -> ssl.SSLContext | None:
    """Return what peers are shown, or None where there is no certificate.

    Raises:
        config.env.ConfigurationError: the files are not what they should be.
    """
    if not options.tls_certificate:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # The password: of a key that has one, OpenSSL would ask on the terminal.
        context.load_cert_chain(options.tls_certificate, options.tls_key, password="")
    except (OSError, ValueError) as problem:  # those of TLS are among them
        raise env.ConfigurationError(
            f"SIP_TLS_CERTIFICATE and SIP_TLS_KEY must be a chain and its key without a password, in PEM: {problem}"
        ) from None
    return context


def believed_authorities(options: SipOptions) -> ssl.SSLContext:
    """Return by what peers are believed to whom we connect.

    Raises:
        config.env.ConfigurationError
    """
    try:
        context = ssl.create_default_context(cafile=options.tls_ca or None)
    except (OSError, ValueError) as problem:
        raise env.ConfigurationError(f"SIP_TLS_CA must be a file of certificates in PEM: {problem}") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
