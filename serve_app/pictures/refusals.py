"""What an upload is that is not read, said in a sentence with its remedy."""

from __future__ import annotations

import base64
import io
import re

from PIL import JpegImagePlugin

from deployments.errors import FormatNotAccepted, UnreadablePicture
from serve_app.pictures import tiff_directory

ACCEPTED_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

_ACCEPTED_SPOKEN = ", ".join(ACCEPTED_FORMATS[:-1]) + " or " + ACCEPTED_FORMATS[-1]

JPEG_MAGIC = b"\xff\xd8\xff"
_PICTURES = (JPEG_MAGIC, b"\x89PNG", b"GIF8", b"RIFF", b"BM", *tiff_directory.MAGICS)

_OTHERS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML document",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
    b"{": "JSON text",
}
"""How what is no picture begins → what it is."""

_JPEG_XL = (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")

_ISO_MEDIA_MARK = b"ftyp"
"""ISO base media files, of which HEIC and AVIF pictures and MP4 films are kinds, carry this at byte 4."""

_ISO_BRANDS_END = 64
"""The brands that matter are among the first."""

_HEIC_BRANDS = re.compile(rb"hei[cxms]|hev[cxms]|mif1|msf1")
_AVIF_BRANDS = re.compile(rb"avi[fs]")

_SAMPLE_FORMATS = {2: "signed ", 3: "floating-point "}
_PHOTOMETRICS = {0: "grey", 1: "grey", 2: "RGB", 3: "palette", 5: "CMYK", 6: "YCbCr", 8: "Lab"}
_UNKNOWN_TO_PILLOW = b"MM\0+"
_PHOTOMETRIC, _BITS, _CHANNELS, _SAMPLE_FORMAT = 262, 258, 277, 339
"""TIFF's tags, and names of their values."""

_BASE64_LOOKED_AT = 64


def refusal(data: bytes) -> FormatNotAccepted | UnreadablePicture:
    """Name what Pillow does not know for a picture."""
    if data.startswith(_JPEG_XL):
        return not_accepted("JPEG XL pictures")
    if data[4:8] == _ISO_MEDIA_MARK:
        return _of_iso_media(data[8:_ISO_BRANDS_END])
    if data.startswith(JPEG_MAGIC) and (kind := _kind_of_jpeg(data)):
        return FormatNotAccepted(f"A JPEG of {kind} is not accepted: save it with 8 bits a channel and send it again.")
    if data.startswith(tiff_directory.MAGICS) and (kind := _kind_of_tiff(data)):
        return FormatNotAccepted(
            f"This kind of TIFF ({kind}) is not accepted: save it as RGB with 8 bits a channel and send it again."
        )
    if _is_base64(data):
        return UnreadablePicture(
            "The upload is base64 text in place of the picture: decode it and send the bytes that it stands for."
        )
    beginning = data[:_BASE64_LOOKED_AT].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    what = next((what for mark, what in _OTHERS.items() if beginning.startswith(mark.lower())), "")
    named = f"{what} and not a picture" if what else "not a readable picture"
    return UnreadablePicture(f"The upload is {named}: send a {_ACCEPTED_SPOKEN} file.")


def not_accepted(what: str) -> FormatNotAccepted:
    """Refuse pictures of another format, named in the plural."""
    return FormatNotAccepted(f"{what} are not accepted: send a {_ACCEPTED_SPOKEN} file.")


def broken(error: Exception) -> UnreadablePicture:
    """Refuse a picture that a decoder gave up."""
    return UnreadablePicture(f"The picture is broken and cannot be decoded ({error}): save it anew and send it again.")


def _of_iso_media(brands: bytes) -> FormatNotAccepted | UnreadablePicture:
    if _AVIF_BRANDS.search(brands):
        return broken(ValueError("an AVIF without a picture"))
    if _HEIC_BRANDS.search(brands):
        return FormatNotAccepted(
            "HEIC pictures are not accepted: export it as JPEG, or choose “Most Compatible” as the "
            "camera's format, and send that."
        )
    return not_accepted("MP4, QuickTime and like files")


def _kind_of_jpeg(data: bytes) -> str:
    try:
        JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    except Exception as error:
        kind = re.fullmatch(r"cannot handle (\d+)-(bit layers|layer images)", str(error))
        if kind:
            return f"{kind[1]} {'bits a channel' if kind[2].startswith('bit') else 'channels'}"
    return ""


def _kind_of_tiff(data: bytes) -> str:
    if data.startswith(_UNKNOWN_TO_PILLOW):
        return "BigTIFF, big-endian"
    tags = tiff_directory.whole_numbers(data)
    if _CHANNELS not in tags and _BITS not in tags:
        return ""
    photometric = _PHOTOMETRICS.get(tags.get(_PHOTOMETRIC, 1), "unknown colours")
    sample_format = _SAMPLE_FORMATS.get(tags.get(_SAMPLE_FORMAT, 1), "")
    return f"{photometric}, {tags.get(_CHANNELS, 1)} × {tags.get(_BITS, 1)} {sample_format}bits"


def _is_base64(data: bytes) -> bool:
    text = data[: 2 * _BASE64_LOOKED_AT].strip(b"\xef\xbb\xbf \t\r\n\"'")
    if text.lower().startswith(b"data:"):
        return True
    text = re.sub(rb"\s", b"", text)[:_BASE64_LOOKED_AT].replace(b"-", b"+").replace(b"_", b"/")
    try:
        decoded = base64.b64decode(text[: len(text) // 4 * 4], validate=True)
    except ValueError:
        return False
    return decoded.startswith((*_PICTURES, *_JPEG_XL)) or decoded[4:8] == _ISO_MEDIA_MARK
