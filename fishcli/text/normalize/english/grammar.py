"""The grammar around a number: an abbreviation that ends a sentence, an amount that modifies a noun."""

import regex
from regex import Match

STARTERS = (
    "The|An?|It|He|She|They|We|You|I|This|That|These|Those|There|In|On|At|But|And|So|Then|When|If|As|For|My|Our|His|Her"
    "|Its|Their|What|Who|How|Why|Where|After|Before|No|Yes"
)
_AFTER_STOP = regex.compile(rf"""["”’)\]]*(?:\s*\Z|[ \t]*\n|\s+["“(]?(?:{STARTERS})\b)""")
_ARTICLE = r"(?<![\w'’])(?P<article>an?)"
_DETERMINERS = (
    "the|his|her|its|our|my|your|their|this|these|those|every|each|another|any|some|several|many|both|one|two|three"
    "|four|five|six|seven|eight|nine|ten"
)
_POSSESSIVE = r"\w(?<!\b(?:it|that|he|she|what|there|here|who|where|how|let))['’]s"
_ADJECTIVES = (
    "new|old|small|big|large|heavy|light|little|single|standard|typical|full|cheap|huge|extra|whole|first|second|next"
    "|last|fresh|good|long|short|simple|thin|thick|used|lost|empty|common|normal|mere|modest|black|white|red|blue|green"
)
_DETERMINER = regex.compile(
    rf"(?:{_ARTICLE}|(?<![\w'’])(?:{_DETERMINERS})|{_POSSESSIVE})(?:\s(?:{_ADJECTIVES}|\w{{1,12}}-\w{{1,8}},?))?\s\Z",
    regex.IGNORECASE,
)
_NO_NOUNS = (
    r"is|are|was|were|be|been|being|am|has|have|had|do|does|did|will|would|can|could|may|might|must|shall|should|and"
    r"|or|but|nor|of|in|on|at|to|for|from|by|with|without|per|than|as|if|when|while|that|which|who|whom|whose|he|she"
    r"|it|they|we|you|i|not|so|because|a|an|the|his|her|my|our|your|their|its|this|these|those|each|every|up|down|off"
    r"|out|over|under|more|less|now|today|tonight|then|yesterday|tomorrow|later|ago|again|also|only|just|too|away"
    r"|apart|left|worth|extra|went|came|made|gave|got|took|cost|about|after|before|until|since|into|onto|through"
    r"|between|within|plus|minus|times|here|there|where|back|all|both|once|twice|instead|spent|paid|stayed|earned|lost"
    r"|raised|needed|owed|saved|seems?|total|altogether|fell|rose|grew|ran|sat|lay|stood|began|became|means?|meant"
    r"|bought|sold|goes|comes|makes|gets|seems|looks|north|south|east|west|further|farther|faster|slower|heavier"
    r"|lighter|longer|shorter|higher|lower|taller|deeper|wider|older|younger|inland|offshore|along|across|around"
    r"|towards?|behind|ahead|beyond|below|above|\w{2,15}ed"
)
_NOUN = regex.compile(rf"(?:\s|-(?!\d))(?!(?:{_NO_NOUNS})\b)[a-z]")
_NOUN_AFTER_ARTICLE = regex.compile(r"(?:\s|-)(?!(?:and|or|per|for|in|at|on|to|of)\b)\p{L}")


def stop(match: Match[str]) -> str:
    """Return a full stop if the one of the abbreviation ends the sentence too, else nothing."""
    return "." if match[0].endswith(".") and _AFTER_STOP.match(match.string, match.end()) else ""


def modifies_noun(match: Match[str]) -> bool:
    """Return whether the amount is an adjective, and so singular: "the 5 kg bag", but "the 5 kg are here"."""
    before = match.string[max(0, match.start() - 36) : match.start()]
    determiner = _DETERMINER.search(before)
    if not determiner:
        return False
    noun = _NOUN_AFTER_ARTICLE if determiner["article"] else _NOUN
    return noun.match(match.string, match.end()) is not None
