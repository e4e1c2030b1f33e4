"""The invented people of the town, their facts, and the ways in which a text may state them."""

from dataclasses import dataclass

from tasks.starter.dice import Dice
from tasks.starter.phrases import phrases

FIRST = phrases("""
    Aldous | Brenna | Corvin | Delphia | Eskil | Fenna | Gideon | Halka | Isolde | Jorun | Kester |
    Lunetta | Merrick | Nerys | Osric | Petra | Quillon | Rosalba | Sorrel | Tamsin | Ulric | Verity |
    Wystan | Xanthe | Yorick | Zelda | Ambrose | Bettina | Caspian | Dorothea | Evander | Flora |
    Garrick | Hester | Ignatius | Jessamy | Kiran | Leopold | Mirela | Nikolai | Ottilie | Phineas |
    Ragna | Silas | Thora | Umberto | Viveka | Wendeline | Yasmin | Zoltan | Anselm | Birgit | Cyprian |
    Drusilla | Emeric | Frida | Gwendal | Hyacinth | Ivo | Juniper | Klaus | Lavinia | Magnus | Ninian |
    Odette | Percival | Rufus | Saskia | Tobias | Ursel | Valentin | Winnow | Ysolt | Zephyr | Arlo |
    Bruna | Cosmo | Dinah | Edda | Florian | Greta | Horatio | Imre | Jonquil | Katya | Linus | Maude |
    Niamh | Orlando | Philippa | Ronan | Selma | Theo | Una | Vesper | Willa
""")
LAST = phrases("""
    Abernathy | Bellweather | Crickmore | Dunsany | Eastlake | Farthing | Galbraith | Hollowell | Inskip
    | Jellicoe | Kettering | Loxley | Mossgrove | Netherby | Oakshott | Pemberton | Quarles | Ravenhill
    | Stoddart | Thistlewood | Underhay | Vancourt | Wimbush | Yarrowby | Zellner | Ashdown | Blackwater
    | Copperfold | Drummond | Eldridge | Fairweather | Greystone | Hawkins | Ironside | Jessop |
    Kirkbride | Lindqvist | Marchbanks | Nightingale | Osgood | Pilchard | Quennell | Rookwood |
    Silverton | Tregarth | Upchurch | Vandermeer | Whitlock | Yardley | Zimmer | Applegarth | Birdsall |
    Cavendish | Dovecote | Entwistle | Fothergill | Goosey | Hartigan | Ibbotson | Jarrow | Knapp |
    Lockhart | Mulgrave | Norcross | Ottershaw | Pettigrew | Quickfall | Rushmore | Sandalwood |
    Tolliver | Umber | Vickery | Wolstan | Yeoman | Zouch | Armitage | Bramble | Chisholm | Dauntsey |
    Ellerby | Finch | Gorringe | Hobday | Ives | Jolliffe | Kestrel | Lambourne | Merriweather |
    Nettleship | Oddie | Pocklington | Ringwood | Salter | Trotwood | Uttley | Venn | Wagstaff
""")

VALUES: dict[str, list[str]] = {
    "trade": phrases("""
        cooper | glazier | thatcher | falconer | beekeeper | bookbinder | saddler | clockmaker | potter
        | lacemaker | dyer | chandler
    """),
    "street": phrases("""
        Tanner Row | Mill Lane | Harbour Street | Chapel Hill | Quince Street | Ferry Road | Juniper
        Walk | Granary Street | Orchard Lane | Lantern Walk | Weaver Row | Kiln Road
    """),
    "music": phrases("""
        cello | fiddle | flute | harp | trumpet | banjo | clarinet | piano | mandolin | oboe | tuba |
        zither
    """),
}
"""The values of each fact; twelve of each, so that guessing is right about one time in twelve."""
FACTS = tuple(VALUES)


@dataclass(frozen=True)
class Person:
    """One inhabitant: a full name that no one else shares in any part, a value for each fact."""

    name: str
    facts: dict[str, str]

    @property
    def first(self) -> str:
        """The first name."""
        return self.name.split()[0]


def townspeople(seed: int, count: int) -> list[Person]:
    """Return the people; names and facts are drawn independently, each half of the list balanced.

    The first half is the one that the instruction set may ask about in training, the second half the
    one that it is tested on.
    """
    dice = Dice(seed, "people")
    firsts, lasts = dice.sample(FIRST, count), dice.sample(LAST, count)
    halves = (count - count // 2, count // 2)
    columns = {fact: [v for n in halves for v in dice.spread(VALUES[fact], n)] for fact in FACTS}
    return [
        Person(f"{first} {last}", {fact: columns[fact][i] for fact in FACTS})
        for i, (first, last) in enumerate(zip(firsts, lasts, strict=True))
    ]
