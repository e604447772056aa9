"""The main text of a web page: what a reader came for, without menus, scripts and link lists.

Blocks of text are told apart by their number of words and their link density, with the decision tree of
Kohlschuetter, Fankhauser and Nejdl, "Boilerplate detection using shallow text features" (WSDM 2010),
section 4 (the "densitometric plus word count" classifier on the block before, the block and the block
after). Before that, elements that never hold the text (navigation, forms, footers, ...) are dropped by tag,
role and class.
"""

import re
from dataclasses import dataclass
from html.parser import HTMLParser


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NEVER = _names(
    "script style noscript template svg math canvas iframe object embed select textarea video audio"
)
_DROPPED = _NEVER | _names("nav footer aside form button dialog menu map figcaption time")
_VOID = _names("area base br col embed hr img input link meta param source track wbr")
_BLOCKS = _names(
    """
    address article blockquote body caption center dd details div dl dt fieldset figcaption figure
    h1 h2 h3 h4 h5 h6 header hr html legend li main ol p pre section summary table tbody td tfoot th
    thead title tr ul
    """
)
_HEADINGS = _names("h1 h2 h3 h4 h5 h6")
# An open <p> or <li> is closed by the next one, though the page leaves out the end tag.
_IMPLIED = {name: frozenset([name]) for name in ("p", "li", "tr", "option")} | {
    "td": frozenset(["td", "th"]),
    "th": frozenset(["td", "th"]),
    "dt": frozenset(["dt", "dd"]),
    "dd": frozenset(["dt", "dd"]),
}
_ROLES = _names("navigation banner contentinfo search menu menubar dialog alert complementary")
_UNWANTED = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|menu|sidebar|footer|breadcrumbs?|cookies?|consent|share|sharing|social"
    r"|related|recommended|promo|advert|advertisement|ads?|newsletter|subscribe|popup|modal|comments?|pagination"
    r"|skip-link|toolbar|masthead|by-?line|author|dateline|timestamp|post-meta|entry-meta|tags|gallery|caption"
    r"|disclaimer|teaser|outbrain|taboola)(?:$|[\s_-])",
    re.IGNORECASE,
)
_SPACE = re.compile(r"[ \t\r\n\f\xa0]+")
_WORD = re.compile(r"\w+")
_ENDS = re.compile(r"[.!?:;…。！？\"'”’»)\]}=]\s*$")
_NOTICE = re.compile(r"\bthis (?:web)?site uses cookies\b|^save my name, email\b", re.IGNORECASE)
_CRUMB = 5  # words
_MOST = 0.8  # share of the text that makes one of several articles the article
_FEW_WORDS = 150
_MUCH_MORE = 2


@dataclass
class _Block:
    text: str
    words: int
    link_words: int
    heading: bool
    main: bool  # inside <article> or <main>
    article: int  # number of the outermost <article> it lies in, 0 for none

    @property
    def link_density(self) -> float:
        return self.link_words / self.words if self.words else 0.0


class _Blocks(HTMLParser):
    """Splits a page into blocks of text."""

    def __init__(self, strict: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._strict = strict  # drop by role, class and all of _DROPPED
        self.blocks: list[_Block] = []
        self.title = ""
        self._stack: list[tuple[str, bool]] = []  # open elements: tag, is it dropped
        self._dropped = self._links = self._pre = self._main = 0
        self._article = self._articles = 0  # how many are open; how many outermost ones there were
        self._parts: list[str] = []
        self._link_words = 0
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            if tag == "br" and not self._dropped:
                self._parts.append("\n")
            elif tag == "hr":
                self.flush()
            return
        closes = _IMPLIED.get(tag)
        if closes is not None and self._stack and self._stack[-1][0] in closes:
            self.handle_endtag(self._stack[-1][0])
        if tag in _BLOCKS:
            self.flush()
        dropped = tag in _NEVER
        if self._strict and tag not in ("html", "body", "main", "article"):
            dropped = tag in _DROPPED or _unwanted(attrs)
        self._stack.append((tag, dropped))
        self._dropped += dropped
        self._count(tag, 1)
        if tag in _HEADINGS:
            self._heading = True

    def handle_endtag(self, tag: str) -> None:
        if not any(open_tag == tag for open_tag, _ in self._stack):
            return
        if tag in _BLOCKS:
            self.flush()
        while self._stack:
            open_tag, dropped = self._stack.pop()
            self._dropped -= dropped
            self._count(open_tag, -1)
            if open_tag == tag:
                return

    def handle_data(self, data: str) -> None:
        if self._stack and self._stack[-1][0] == "title":
            self.title += data
        elif not self._dropped:
            self._parts.append(data if self._pre else _SPACE.sub(" ", data))
            if self._links:
                self._link_words += len(_WORD.findall(data))

    def flush(self) -> None:
        """Close the block of text that is open."""
        text = "".join(self._parts)
        if self._pre:
            text = text.strip("\n")
        else:
            text = "\n".join(line.strip() for line in text.split("\n")).strip()
        if text.strip():
            words = len(_WORD.findall(text))
            self.blocks.append(
                _Block(
                    text,
                    words,
                    min(self._link_words, words),
                    self._heading,
                    self._main > 0,
                    self._articles if self._article else 0,
                )
            )
        self._parts, self._link_words, self._heading = [], 0, False

    def _count(self, tag: str, change: int) -> None:
        if tag == "a":
            self._links += change
        elif tag == "pre":
            self._pre += change
        elif tag in ("article", "main"):
            self._main += change
        if tag == "article":
            self._articles += change > 0 and self._article == 0
            self._article += change


def html_text(page: str) -> tuple[str, str]:
    """Title and main text of an HTML page; the text is "" when nothing looks like one.

    Paragraphs are separated by an empty line; preformatted text keeps its lines.
    """
    title, text = _extracted(page, strict=True)
    if len(_WORD.findall(text)) < _FEW_WORDS:
        # Some pages keep everything in a form, or in an element whose class is named like a sidebar.
        title, other = _extracted(page, strict=False)
        if len(other) > _MUCH_MORE * len(text):
            text = other
    return title, text


def _extracted(page: str, strict: bool) -> tuple[str, str]:
    parser = _Blocks(strict)
    parser.feed(page)
    parser.close()
    parser.flush()
    blocks = parser.blocks
    inside = [block for block in blocks if block.main]
    if sum(b.words - b.link_words for b in inside) >= 0.4 * sum(b.words - b.link_words for b in blocks):
        blocks = inside or blocks
    blocks = _one_article(blocks)
    kept = _content(blocks)
    _withhold(blocks, kept)
    # A heading stays when the text below it stays.
    for i in range(len(blocks) - 2, -1, -1):
        if blocks[i].heading and blocks[i].link_density < 0.5 and kept[i + 1]:
            kept[i] = True
    text = "\n\n".join(block.text for block, keep in zip(blocks, kept, strict=True) if keep)
    return _SPACE.sub(" ", parser.title).strip(), text


def _one_article(blocks: list[_Block]) -> list[_Block]:
    """The blocks of the article that holds most of the text, if there is one: the others are teasers."""
    words: dict[int, int] = {}
    for block in blocks:
        words[block.article] = words.get(block.article, 0) + block.words - block.link_words
    if len(words) - (0 in words) < 2:
        return blocks
    most = max((number for number in words if number), key=lambda number: words[number])
    if words[most] < _MOST * sum(words.values()):
        return blocks
    return [block for block in blocks if block.article == most]


def _withhold(blocks: list[_Block], kept: list[bool]) -> None:
    """Take back what stands there a second time, notices of cookies, and crumbs: dates, names, addresses."""
    seen: set[str] = set()
    for i, block in enumerate(blocks):
        again = block.words > _CRUMB and block.text in seen
        seen.add(block.text)
        crumb = block.words <= _CRUMB and not block.heading and not _ENDS.search(block.text)
        if again or (crumb and "\n" not in block.text) or _NOTICE.search(block.text):
            kept[i] = False


def _content(blocks: list[_Block]) -> list[bool]:
    """The decision tree of the paper, figure 2b, on each block and its neighbours."""
    nothing = _Block("", 0, 0, False, False, 0)
    kept = []
    for i, block in enumerate(blocks):
        before = blocks[i - 1] if i else nothing
        after = blocks[i + 1] if i + 1 < len(blocks) else nothing
        if block.link_density > 1 / 3:
            keep = False
        elif before.link_density <= 5 / 9:
            keep = block.words > 16 or after.words > 15 or before.words > 4
        else:
            keep = block.words > 40 or after.words > 17
        kept.append(keep)
    return kept


def _unwanted(attrs: list[tuple[str, str | None]]) -> bool:
    for name, value in attrs:
        if value is None:
            continue
        if name == "role" and value in _ROLES:
            return True
        if name in ("class", "id") and _UNWANTED.search(value):
            return True
        if name == "aria-hidden" and value == "true":
            return True
    return any(name == "hidden" for name, _ in attrs)


_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


def decode_html(data: bytes, declared: str | None = None) -> str:
    """Bytes of a page as text: by byte order mark, `declared` (HTTP), <meta charset>, UTF-8, Windows-1252."""
    if data.startswith(b"\xef\xbb\xbf"):
        return data[3:].decode("utf-8", "replace")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    meta = _CHARSET.search(data[:4096])
    for name in (declared, meta.group(1).decode("ascii", "replace") if meta else None, "utf-8"):
        if name is None:
            continue
        try:
            return data.decode(name)
        except (LookupError, UnicodeDecodeError):
            continue
    return data.decode("cp1252", "replace")
