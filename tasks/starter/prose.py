"""News, weather and notices of the town: the prose around its people, and the longer articles."""

from tasks.starter.dice import Dice
from tasks.starter.phrases import phrases

SLOTS: dict[str, list[str]] = {
    "place": phrases("""
        the town hall | the station | the harbour | the old mill | Market Square | High Street | the
        library | the school | the museum | the chapel | the bus depot | the fire station | the swimming
        pool | the cattle market | the park | the lighthouse | the post office
    """),
    "town": phrases("""
        Elmsford | Harrow Bay | Stonecross | Pinewick | Lower Marden | Saltby | Oxley | Thornham |
        Whitmere | Castle Bray
    """),
    "day": phrases("""
        on Monday | on Tuesday | on Wednesday | on Thursday | on Friday | on Saturday | on Sunday | last
        week | yesterday | this morning | in the night | after Easter | at the end of the month | in the
        first week of May
    """),
    "soon": phrases("""
        on Monday | on Tuesday | on Thursday | on Friday | on Sunday | next week | tomorrow | before long
    """),
    "season": phrases("""
        spring | summer | autumn | winter | the harvest | the holidays | Advent | the thaw
    """),
    "weather": phrases("""
        heavy rain | a hard frost | thick fog | a warm wind | thunder | the first snow | a week of
        sunshine | a gale from the west | drizzle | a dry spell | hail | a mild night
    """),
    "number": phrases("""
        two | three | four | five | six | seven | eight | nine | ten | a dozen | fifteen | twenty |
        thirty | forty | sixty | a hundred
    """),
    "group": phrases("""
        the council | the fire brigade | the band | the rowing club | the teachers | the harbour board |
        the shopkeepers | the bell ringers | the sixth form | the allotment society | the bus company |
        the drama club | the market traders | the parish
    """),
    "thing": phrases("""
        the bridge | the clock tower | the sea wall | the playground | the bandstand | the ferry | the
        railway crossing | the war memorial | the boathouse | the greenhouse | the water main | the bus
        shelter | the cinema | the footpath | the lock gate
    """),
    "food": phrases("""
        plum cake | pea soup | smoked trout | apple cider | rye bread | roast chestnuts | blackberry jam
        | hot chocolate | goat cheese | ginger beer
    """),
    "verdict": phrases("""
        nobody complained | few were surprised | opinions differ | the mood was good | most people
        shrugged | there was applause | the letters page is full of it | some are still cross | the
        matter is settled | that may take a while
    """),
}

SHORT: list[str] = phrases("""
    {Weather} is expected {soon}, and {group} ask drivers to be careful near {place}. | {Group} met at
    {place} {day}; {verdict}. | A stall with {food} stood outside {place} {day}, and by noon it was sold
    out. | The road from {town} to {town2} is closed {day} because of {weather}. | After {weather} the
    water stood {number} inches deep at {place}. | {Number} people from {town} came to see {thing}
    {day}. | In {season} the bus to {town} runs only {number} times a day. | {Group} have painted
    {thing}, and {verdict}. | There was {food} for all at {place}. | Children from {town} planted
    {number} trees behind {place} {day}. | {Thing} will be shut until {season}, says a notice at
    {place}. | It was so cold {day} that {group} moved the meeting to {place}. | A lorry from {town} hit
    {thing} {day}, but no one was hurt. | {Group} want {number} more benches at {place} before {season}.
    | A rare gull was seen over {place} {day}, far from {town}. | The fair at {town} opened {day} with
    {food} and loud music. | No one can remember {weather} like this in {season}. | Old photographs of
    {thing} are on show at {place} until {season}. | {Group} lost to {town} {day}, by {number} to one. |
    Somebody left {number} umbrellas at {place} {day}, and they are still there. | The lights at {place}
    went out {day}, and candles had to do. | With {season} come the visitors, and with the visitors the
    queue at {place}. | A swarm of bees settled on {thing} {day}. | From the hill one could see
    {weather} moving in from {town}. | {Group} gave {number} pounds for the repair of {thing}. | The
    smell of {food} hung over {place} all morning. | In {town} they still talk about {thing}, and here
    too {verdict}.
""")

LINKS = phrases("""
    At the same time | Meanwhile | For all that, | As a result | Even so, | In the end | Later that day
    | Not far away | Luckily | | | | | | Strange to say, | By evening | Once again | As usual
""")

LONG: dict[str, list[str]] = {
    "start": phrases("""
        {Group} had waited for this since {season}. | It began with {weather} {day}, and nobody thought
        much of it. | For {number} years there has been talk about {thing}. | Those who passed {place}
        {day} rubbed their eyes. | A letter from {town} has stirred up {group}. | The news reached us
        {day} from {town}. | When {weather} came over {town} {day}, {thing} gave way. | {Number}
        visitors and one brass band: that was {season} at {place}.
    """),
    "middle": phrases("""
        According to {group}, {thing} needs {number} new beams, and the old ones must go before
        {season}. | A visitor from {town} offered {food} to everyone at {place} and would not take
        money. | The children had made {number} lanterns, which {group} hung along the wall of {place}.
        | Nobody at {place} could say who had ordered {number} barrels of {food}. | One speaker, who had
        come from {town} on foot, recalled {weather} of long ago. | While {group} argued, somebody
        quietly opened the doors of {place} and let the people in. | The cost is put at {number}
        thousand pounds, of which {town} would pay the smaller part. | By then {weather} had set in, and
        the last train to {town} was late again. | A rope was found, then a second, and {number} hands
        pulled until {thing} stood upright. | What happened next is told differently in {town} and in
        {town2}. | Since {season} the path behind {place} has been too muddy for prams, which {group}
        call a scandal. | For an hour there was nothing to do but eat {food} and look at {thing}. | A
        plan of {thing} hangs in {place}, where anyone may study it and leave a note. | The oldest among
        them remembered that {thing} had once been carried here from {town} by barge. | Sales of {food}
        were better than ever, we hear, although {weather} kept many from {town} at home. | It took
        {number} men and women until midnight to clear the square before {place}. | To the question of
        what would become of {thing}, {group} had no answer. | At {place} the water was turned off for
        {number} hours, so that {group} could look for the leak. | Three times the bell rang, and
        {number} times the dog from the inn howled back. | Some had hoped that {town} would help with
        {thing}, but the money there has gone into a new roof.
    """),
    "end": phrases("""
        For now {verdict}, and {thing} stays as it is. | {Group} will meet again {soon} at {place}. |
        Perhaps {season} will bring an answer. | So it ended with {food}, and {verdict}. | We shall
        report {soon}, when {group} have counted the money. | Until then the way to {town} leads past
        {place}. | As for {thing}, {verdict}. | The rest is up to {group}, who have {number} weeks to
        think.
    """),
}


def fill(dice: Dice, text: str) -> str:
    """Return the text with each slot filled; a capital first letter in the slot's name asks for one."""
    values = {slot: dice.pick(options) for slot, options in SLOTS.items()}
    values["town2"] = dice.pick([town for town in SLOTS["town"] if town != values["town"]])
    values |= {slot.capitalize(): value[0].upper() + value[1:] for slot, value in values.items()}
    return text.format(**values)


def short_text(dice: Dice) -> str:
    """Return a notice of one to three sentences."""
    chosen = dice.sample(SHORT, dice.pick([2, 2, 2, 3]))
    return " ".join(_linked(dice, chosen))


def long_text(dice: Dice) -> str:
    """Return an article of at least 80 words."""
    middle = dice.sample(LONG["middle"], dice.between(4, 6)) + dice.sample(SHORT, 2)
    parts = [dice.pick(LONG["start"]), *dice.shuffled(middle), dice.pick(LONG["end"])]
    text = " ".join(_linked(dice, parts))
    return text if len(text.split()) >= 80 else long_text(dice)


def _linked(dice: Dice, sentences: list[str]) -> list[str]:
    """Return the sentences filled, some of them joined to the one before by a connective."""
    out = [fill(dice, sentences[0])]
    for sentence in sentences[1:]:
        text = fill(dice, sentence)
        link = dice.pick(LINKS) if dice.chance(0.35) else ""
        proper = text.split()[0] in {"Market", "High"}
        out.append(f"{link} {text if proper else text[0].lower() + text[1:]}" if link else text)
    return out
