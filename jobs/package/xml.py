"""XML documents, element by element."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lxml import etree

XSI = "http://www.w3.org/2001/XMLSchema-instance"
# What XML 1.0 (section 2.2) cannot say, not even escaped; names of files may hold it.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def text_of(value: object) -> str:
    return _FORBIDDEN.sub("\ufffd", str(value))


def child(
    parent: etree._Element, space: str, name: str, text: object = None, attributes: Mapping[str, str] | None = None
) -> etree._Element:
    """A new last child. text: None for none. attributes: names may hold a namespace, as lxml writes it."""
    from lxml import etree

    element = etree.SubElement(
        parent, f"{{{space}}}{name}", {key: text_of(value) for key, value in (attributes or {}).items()}
    )
    if text is not None:
        element.text = text_of(text)
    return element


def document(root: etree._Element) -> bytes:
    from lxml import etree

    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)
