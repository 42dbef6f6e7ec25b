"""The text of a YAML file out of its bytes: UTF-8, or UTF-16 where its first bytes say so (YAML 1.2, section 5.2).

Windows' PowerShell writes the latter, and Go's YAML package, with which FastDeploy's router reads its files, takes it.
"""

from __future__ import annotations

import codecs


def yaml_text(data: bytes) -> str:
    """Return the text. Raises UnicodeDecodeError."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if is_wide else "utf-8-sig")
