"""The text of a peer's certificate."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from libp2p_quic._dial_attempt import PeerCertificate

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def told(certificate: PeerCertificate) -> str:
    """The type of its key, when it is valid, and its serial number."""
    valid = f"valid from {_moment(certificate.not_before)} to {_moment(certificate.not_after)} UTC"
    return f"{certificate.key_type}, {valid}, serial {certificate.serial}"


def _moment(seconds: int) -> str:
    """Date and time. Those of certificates are of the years 0 to 9999, and `datetime` has no year 0."""
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return "year 0"
    return f"{moment.date().isoformat()} {moment.hour:02}:{moment.minute:02}"
