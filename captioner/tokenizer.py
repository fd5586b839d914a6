"""Captions -> tokens as the COCO scorers make them. Standard library only.

Those scorers run Stanford's PTBTokenizer (CoreNLP 3.4.1, `-lowerCase`), then drop the tokens of a list of punctuation. It is a lexer:
of all rules the one that matches longest, what must follow included, wins, and among equals the first. Here its rules are
regular expressions; captions of nothing but words, commas and a last full stop, most of them, never reach them.

Source: the lexer's published rules, held against what it prints; the punctuation list is coco-caption's. Departures: of HTML's
character entities only `&amp;` is known, and the rarer emoticons are split as other punctuation is. The lexer dates from 2014: it drops
letters, numerals and combining marks that it does not know (those of Burmese, Khmer, Kannada, Odia or Sinhala, all beyond 16 bits),
which tears such words apart. Here they belong to their word, as the marks that it knows do.
"""

import re
import unicodedata
from itertools import groupby

DROPPED = frozenset(("", "'", "''", "`", "``", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
"""As coco-caption has it. Its brackets are in upper case and tokens are in lower case, so a bracket stays, as `-lrb-`."""


def _marks() -> str:
    """The combining marks, as a regular expression's ranges: those that write words, not the selectors and frames of emoji."""
    blocks = [(0x300, 0x20D0), (0x2C00, 0x3400), (0xA640, 0xAC00), (0xFB1E, 0xFB1F), (0xFE20, 0xFE30), (0x10A00, 0x12000)]
    blocks += [(0x16A00, 0x17000), (0x1E000, 0x1E950), (0xE0100, 0xE01F0)]
    marks = [code for block in blocks for code in range(*block) if unicodedata.category(chr(code)) in ("Mn", "Mc")]
    runs = [list(run) for _, run in groupby(enumerate(marks), lambda pair: pair[1] - pair[0])]
    return "".join(f"{chr(run[0][1])}-{chr(run[-1][1])}" for run in runs)


_NEITHER = r"²³¹¼-¾\u2070\u2074-\u207e\u2080-\u208e\u2150-\u215f\u2460-\u249b\u24ea-\u24ff\u2776-\u2793"  # Python counts these as letters
# Marks join and begin words but no compounds with hyphens; so do a few signs, and the soft hyphen, which is then left out.
_JOINING = (
    r"\u00ad\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02eb\u02ed\u02ef-\u02ff\u0375\u0384\u0385\u03f6\u055a-\u055f\u06dd\u06de\u06e9\u06fd\u06fe"
    r"\u070f"
) + _marks()
_LETTER = rf"[^\W\d_{_NEITHER}]"
_ALNUM = rf"[^\W_{_NEITHER}]"
_SPELT = rf"(?:{_ALNUM}++|[{_JOINING}]++)*"
_APOS = r"['\u2019\x92]"
_APOS_LIKE = r"['\u2019`\u2018\u201b\x91\x92]"
_ASCII = r"[A-Za-z0-9]"
_QUOTE = r"['\u2019`\u2018\u201b\u201c\u201d\u201e\u201f\u201a\u2039\u203a\u00ab\u00bb\x82\x84\x91-\x94]"
_WORD = rf"(?:{_LETTER}|[{_JOINING}]){_SPELT}(?:[.!?](?:{_LETTER}|[{_JOINING}]){_SPELT})*"
_NUMBER = r"(?:\d*(?:[.:,\u00ad\u066b\u066c]\d+)+|\d+)"
_AUXILIARY = rf"{_APOS}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = rf"(?i:n{_APOS_LIKE}t)"
_ELISION = rf"(?:[dDoOlL]{_APOS_LIKE}{_ALNUM})?"
_PART = rf"(?:{_ALNUM}*{_LETTER}{_ALNUM}*|{_NUMBER})"
_THING = rf"{_ELISION}(?:{_PART}|[-+]{_NUMBER})(?:[-_\u058a\u2010\u2011]{_ELISION}{_PART})*"
_HYPHENED = rf"{_ALNUM}(?:{_ALNUM}|[.,])*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|{_ALNUM}+(?:\.\d+)?))+"
_ACRONYM = r"(?:[A-Za-z](?:\.[A-Za-z])*|(?i:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-U\.(?:K|S\.S\.R))"
_MONTHS = "jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|mon|tues?|wed|thu|thurs|fri"
_STATES = "ala|ariz|calif|colo|conn|ct|dak|fla|ga|ind|kans?|ky|md|mich|minn|mo|mont|neb|nev|okla|penn|tenn|va|vt|wisc?|wyo"
_CAPITAL_STATES = "A(?i:z|rk)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass|iss)|O(?i:re)|P(?i:a)|T(?i:ex)|W(?i:ash)"
_FIRMS = r"inc|cos?|corp|pp?t[ye]s?|ltd|plc|bancorp|bhd|assn|univ|intl|sys|tel|est|ext|sq|jr|sr|bros|(?:ed|ph)\.d|esq|etc|al|seq|bldg"
_TITLES = (
    "mrs?|ms|drs?|profs?|sens?|reps?|attys?|lt|col|gen|messrs|govs?|adm|rev|maj|sgt|cpl|pvt|capt|ste?|ave|pres|lieut|rt|hon|brig|co?mdr"
    "|pfc|spc|supts?|det|mt|ft|adj|adv|asst|assoc|ens|insp|mlle|mme|msgr|sfc|invt|elec|natl|m[ft]g|dept|blvd|rd|vs|alex|wm|jos|cie"
    r"|a\.k\.a|cf|treas|ph"
)
_BEFORE_NUMBERS = "ca|figs?|prop|nos?|sect?s?|arts?|paras?|bldg|pp|op|approx|rs"
_USUALLY_LOWER = rf"(?:(?i:{_MONTHS}|{_STATES}|{_FIRMS})|{_CAPITAL_STATES})\."
_ABBREVIATION = rf"{_USUALLY_LOWER}|(?:(?i:{_TITLES})|v|{_ACRONYM})\."
_SENTENCE_STARTS = (
    "About|According|Additionally|After|An|A|As|At|But|Did|During|Earlier|He|Her|Here|How|However|If|In|It|Last|Many|More|Mr\\.|Ms\\.|Now"
    "|Once|One|Other|Our|She|Since|So|Some|Such|That|The|Their|Then|There|These|They|This|We|When|While|What|Who|Why|Yet|You"
)
_NO_STOP = r"\s\"<>|.!?(){},"


_TAG_NAME = r"[A-Za-z][\w:.-]*"
_TAG = rf"<(?:[!?][A-Za-z-][^>\r\n]*|/?{_TAG_NAME}(?: +{_TAG_NAME}(?: *= *(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|[\w:.-]+))?)* */?) *>"

# (rule, what must follow): of all that match, the longest with what follows wins, then the first.
_RULES = [
    (re.compile(rule), re.compile(follows) if follows else None)
    for rule, follows in (
        (r"(?i:c\+\+|[cf]#)", ""),
        (r"(?i:can(?=not)|'t(?=was))", r"(?i:not|was)"),
        (rf"(?i:{_APOS}t(?=is)|gon(?=na)|got(?=ta)|lem(?=me)|gim(?=me)|wan(?=na))", r"(?i:is|na|ta|me)"),
        (_TAG, ""),
        (r"[\x96\x97\u2013\u2014\u2015]", ""),
        (r"&amp;", ""),
        (_WORD, _AUXILIARY),
        (rf"(?:{_LETTER}|\u00ad)*[A-MO-Za-mo-z](?={_NOT})", _NOT),
        (_WORD, ""),
        (rf"{_APOS}(?i:n){_APOS}?|(?:[lLdDjJ]|(?i:dunkin|somethin|ol)){_APOS}|{_APOS}(?i:em|till?|cause)|{_APOS}[2-9]0(?i:s)", ""),
        (rf"[A-HJ-XZn]{_APOS_LIKE}{_LETTER}{{2,}}|{_LETTER}+[aeiouyAEIOUY]{_APOS_LIKE}[aeiouA-Z]{_LETTER}*", ""),
        (rf"(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l|cap{_APOS}n|c{_APOS}est)|O{_APOS_LIKE}o", ""),
        (rf"[yY]{_APOS}", _LETTER),
        (r"(?i:ftp|svn|svn\+ssh|http|https|mailto)://[^\s\"<>|(){}]+[^\s\"<>|.!?(){},-]", ""),
        (rf"(?i:www)\.(?:[^{_NO_STOP}]+\.)+[a-zA-Z]{{2,4}}(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){{}},-])?", ""),
        (r"(?:[^\s\"`'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu)(?:/[^\s\"<>|()]+[^\s\"<>|.!?(){},-])?", ""),
        (r"<?[a-zA-Z0-9][^\s\"<>|(){}]*@(?:[^\s\"<>|(){}.]+\.)*[^\s\"<>|(){}\[\].,;:]+>?", ""),
        (rf"@[a-zA-Z_]\w*|#{_LETTER}(?:\w|[{_JOINING}])*", ""),
        (rf"{_AUXILIARY}|{_NOT}", r"[^A-Za-z]"),
        (r"\d{1,2}[-/]\d{1,2}[-/]\d{2,4}", ""),
        (rf"[-+]?{_NUMBER}", ""),
        (r"(?:\d{1,4}[- \u00a0])?\d{1,4}(?:\\?/|\u2044)\d{1,4}", ""),
        (r"[¼½¾⅓-⅞]", ""),
        (r"(?i:-(?:RRB|LRB|RCB|LCB|RSB|LSB)-|C\.D\.s|pro-|anti-|S&P-500|S&Ls)", ""),
        (rf"{_ASCII}+(?:-[A-Za-z]+){{0,2}}(?:\\?/{_ASCII}+(?:-[A-Za-z]+){{0,2}}){{1,2}}", ""),
        (r"[A-Z]*\$|#", ""),
        (rf"(?:(?i:{_BEFORE_NUMBERS})|P(?i:t))\.", r"\s?\d"),
        (r"(?i:so|no)\.", r"\s+(?i:Africa|Korea|Cal)"),
        (r"[A-Za-z](?=\.)", rf"\.\s+(?:{_SENTENCE_STARTS})[\s?!]"),  # not an initial: the sentence ends here
        (_ABBREVIATION, ""),
        (_USUALLY_LOWER, r"[^\n]{2}"),
        (rf"{_APOS}\d\d", r"\s"),
        (rf"{_WORD}\.", r"[,;:]"),
        (
            r"(?:\(\d{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:\d{2,4}[- \u00a0])?\d{2,4}[- \u00a0])\d{3,4}[- \u00a0]?\d{3,5}"
            r"|(?:(?:\+\+?)?\d{2,4}\.)?\d{2,4}\.\d{3,4}\.\d{3,5}",
            "",
        ),
        (r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", r"[\W_]"),
        (r"[-^x=~<>']_[-^x=~<>']|\([-^x=~<>'][_.]?[-^x=~<>']\)|\([\^x=~<>']-[\^x=~<>'`]\)", ""),
        (r"@+|#+|_+|\*+|-+|[?!]+|\.\.\.+", ""),
        (_HYPHENED, r"[^\w.+]|_"),
        (rf"{_HYPHENED}\.", r"[,;:]"),
        (_THING, ""),
        (rf"{_ALNUM}+(?:[-_]{_PART})*\.", r"[,;:]"),
        (r"[A-Z]+(?:(?:[+&]|&amp;)[A-Z]+)+", ""),
        (r"['`]{1,2}", r"[A-Za-z]\S|[AaIiUu]\s"),
        (rf"{_QUOTE}{{1,2}}", ""),
        (rf"{_AUXILIARY}|{_NOT}", ""),
    )
]
_PLAIN = re.compile(r"[A-Za-z, ]*(?:(?<=[A-Za-z ])\.)?\s*")
_SHORTENED = re.compile(_ABBREVIATION)
_EASY = re.compile(r"\s*(?:([A-Za-z]+)(?=,?\s|$)|[.,;](?=\s|$)|,(?=[^\d'])|\")")
_SPLIT = {pair.replace(" ", ""): pair.split() for pair in ("can not", "gon na", "got ta", "lem me", "gim me", "wan na")}
_SAID = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-", "[": "-lsb-", "]": "-rsb-", "&amp;": "&", "¢": "cents", "£": "#"}
_SAID |= dict.fromkeys("¤€\x80\u20a0", "$") | {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}
_UNSAID = re.compile(rf"(?:(?![\u201a\u201e\u201f]){_QUOTE})+|[\"\u2026\x85\x96\x97\u2013\u2014\u2015\u00ad]|-+|\.+")
_JOINS = re.compile(f"[{_JOINING}]")
_SYMBOL = re.compile(
    r"[\x00-\x7f¡-§¨©¬®-\u00b4¶-¹¿\u00d7÷\u037e\u0387\u0589\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060c\u061b\u061e"
    r"\u061f\u066a\u066d\u06d4\u0700-\u070d\u07f6-\u07f8\u0964\u0965\u0e3f\u0e4f\u1fbd\u2016-\u2023\u2030-\u203b\u203e-\u2042\u2044\u2070"
    r"\u2074-\u207e\u2080-\u208e\u20a4\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001\u3002\u3012\u30fb\uff01-\uff65\uffe0\uffe1\uffe5\uffe6]"
)


def tokenize(caption: str) -> list[str]:
    """Lower-case tokens; none holds white space."""
    words = caption.replace(",", " ").split() if _PLAIN.fullmatch(caption) else None
    if words is not None and not (words and words[-1].endswith(".") and _SHORTENED.fullmatch(words[-1])):
        tokens = " ".join(words).rstrip(". ").lower().split()
        return tokens if _SPLIT.keys().isdisjoint(tokens) else [part for token in tokens for part in _SPLIT.get(token, [token])]
    line = caption + "\n"  # some rules ask for a character that follows
    tokens, position = [], 0
    while position < len(caption):
        easy = _EASY.match(line, position)
        if easy is not None and (easy[1] or "").lower() not in _SPLIT:
            position = easy.end()
            if easy[1]:
                tokens.append(easy[1].lower())
        else:
            end = _longest(line, position)
            tokens.extend(_said(line[position:end]))
            position = end
    return tokens


def _longest(line: str, start: int) -> int:
    best, furthest = start + 1, 0
    for rule, follows in _RULES:
        match = rule.match(line, start)
        if match is None:
            continue
        reach = match.end()
        if follows is not None:
            context = follows.match(line, reach)
            if context is None:
                continue
            reach = context.end()
        if reach > furthest:
            best, furthest = match.end(), reach
    return best


def _said(token: str) -> list[str]:
    token = token.lower()
    if token in _SAID:
        return [_SAID[token]]
    if token in DROPPED or _UNSAID.fullmatch(token):
        return []
    if len(token) == 1 and not token.isalnum() and not _SYMBOL.match(token) and not _JOINS.match(token):
        return []  # the lexer knows no rule for it
    for curly in "\u2019\u2018\x91\x92":
        token = token.replace(curly, "'")
    token = token.replace("\u00ad", "")
    return token.replace("(", "-lrb-").replace(")", "-rrb-").split()
