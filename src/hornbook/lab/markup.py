"""Text of models and servers made harmless: HTML and SVG with every text escaped, lines for terminals."""

import html

_VOID = frozenset({"meta", "br", "hr", "img", "path", "line", "rect", "circle", "polyline", "polygon"})


class Html(str):
    """Markup that needs no escaping; only `tag`, `join` and `style` make it."""

    __slots__ = ()


Child = str | float | None


def escape(text: Child) -> Html:
    """`text` as it can stand between tags or in a quoted attribute; markup stays as it is.

    Control characters that no HTML file may hold are shown as their Unicode pictures.
    """
    if isinstance(text, Html):
        return text
    if text is None:
        return Html("")
    shown = str(text).translate(_CONTROLS)
    return Html(html.escape(shown, quote=True))


_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"}
_CONTROLS.update({0x7F: 0x2421, **dict.fromkeys(range(55296, 57344), 65533)})


def printable(text: str) -> str:
    """`text` without control characters but line ends and tabs: a model's bytes do not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c for c in text if c in "\n\t" or not (ord(c) < 32 or 127 <= ord(c) < 160))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Html:
    """`<name attributes>children</name>`.

    A trailing underscore is dropped from an attribute's name (`class_`), other underscores become
    hyphens; None and False leave the attribute out, True gives it without a value.
    """
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        label = key.rstrip("_").replace("_", "-")
        parts.append(f" {label}" if value is True else f' {label}="{_attribute(value)}"')
    if name in _VOID and not children:
        return Html("".join(parts) + ("/>" if name not in {"meta", "br", "hr"} else ">"))
    return Html("".join(parts) + ">" + join(*children) + f"</{name}>")


def _attribute(value: str | float) -> str:
    """Escaped, whatever it is; coordinates need two decimals, not seventeen."""
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return html.escape(text.translate(_CONTROLS), quote=True)


def join(*children: Child) -> Html:
    """Children one after another."""
    return Html("".join(escape(child) for child in children))


def style(css: str) -> Html:
    """A style sheet of the package's own; never of a user's text."""
    if "</" in css:
        raise ValueError("a style sheet must not hold a closing tag")
    return Html(f"<style>{css}</style>")
