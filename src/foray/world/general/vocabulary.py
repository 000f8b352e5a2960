"""Words of the invented world's general text: names, values of its relations, and the steps of its procedures.

The lists are short on purpose: a byte-pair vocabulary of about 1,500 tokens holds nearly all of them whole, so that a
very small model spends its capacity on which fact goes with whom and not on spelling. Everything that can follow "a"
starts with a consonant.
"""

from __future__ import annotations


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _list(
    "Ada Bela Cora Dina Edda Faye Gwen Hilda Ines Juna Kira Lena Mara Nell Orla Petra Rhea Sena Tilda Una Vera Wilma "
    "Yana Zita Agnes Britta Celia Dora Elsa Freda"
)
MEN = _list(
    "Alden Boris Casper Dunstan Edgar Finn Goran Hugo Ivo Jasper Klaus Lorin Milo Nils Osric Piers Rufus Silas Tobin "
    "Ulric Viggo Walt Yorick Zeno Anton Bruno Conrad Dario Emil Felix"
)
SURNAMES = _list(
    "Abel Barrow Birch Blythe Bram Brook Caddis Cole Crane Croft Dale Dunn Fell Finch Flint Frost Garth Glover Grove "
    "Hale Harrow Hazel Heath Holt Hurst Keel Kemp Lamb Larch Lowe Marsh Moss Nash Noble Orchard Peel Pike Quill Rook "
    "Rowe Sedge Shaw Sloe Stark Stone Swift Tarn Teal Thorne Tull Vane Venn Wade Ward Weld Wren Yarrow Yates York Zell"
)
PLACE_HEADS = _list("Oak Elm Stone Mill Fox Ash Raven Salt Moss Thorn Reed Lark Wolf Rose")
PLACE_TAILS = _list("ford mere wick dale holm gate ham bury cross well")
REGIONS = tuple("the " + word for word in _list("Fells Levels Marches Isles Wolds Downs Moors Vale"))
RIVERS = _list(
    "Arn Bex Calder Dorr Esk Fenn Gill Hamble Irk Jed Kent Lune Medway Nene Ouse Plym Rother Severn Tavy Usk Wharf "
    "Yare Zill Tweed"
)
CRAFTS = _list(
    "baker weaver potter smith carpenter tanner miller fisher cooper mason tailor glazier shepherd thatcher brewer "
    "painter sailor gardener hunter healer teacher printer joiner dyer farmer saddler chandler scribe cook guard"
)
FOODS = _list(
    "bread cheese soup porridge honey plums pears walnuts trout stew dumplings cherries mushrooms pancakes pickles "
    "beans cabbage figs custard noodles sausages turnips lentils raisins biscuits carrots melons beets"
)
PETS = _list(
    "cat dog goat hen rabbit pony duck parrot ferret lizard mouse fox crow turtle frog hedgehog squirrel pigeon "
    "donkey goose"
)
INSTRUMENTS = _list("flute drum fiddle harp whistle horn lute pipe bell zither trumpet cello gong rattle")
GOODS = _list(
    "salt wool rope glass bricks barrels candles paper knives lace carpets tiles boots clocks kites hats nets baskets "
    "pots lanterns gloves swords combs ink silk saddles masks toys buttons needles"
)
COLOURS = _list("red blue green yellow white black brown grey purple pink")
EMBLEMS = _list("bear wolf stag heron lion swan boar hawk seal salmon beetle snake raven bull hare whale")
HABITATS = (
    "the marsh",
    "the cliffs",
    "the pine woods",
    "the meadows",
    "the caves",
    "the reeds",
    "the sand hills",
    "the orchards",
    "the high rocks",
    "the ditches",
    "the lake",
    "the hedges",
)
OMENS = _list("rain frost luck snow wind thunder peace fog love trouble gold guests sleep war")
SEASONS = _list("spring summer autumn winter")
FIRST_SYLLABLES = _list("dor bri tol kes mun vel gar pli sno zor fen lur")
LAST_SYLLABLES = _list("vik net mop lin dak bol ter gul pin rab sut wen zel")

# Kind -> what every creature of that kind has, eats, lives in, calls its young and fears.
KIND_SLOTS = ("cover", "diet", "den", "young", "fear")
KINDS: dict[str, tuple[str, str, str, str, str]] = {
    "bird": ("feathers", "seeds", "a nest", "chicks", "smoke"),
    "fish": ("scales", "weed", "a pool", "fry", "nets"),
    "moth": ("dust", "nectar", "a cocoon", "grubs", "candles"),
    "snake": ("smooth skin", "mice", "a hole", "wrigglers", "drums"),
    "rodent": ("short fur", "nuts", "a burrow", "kits", "cats"),
    "toad": ("warts", "flies", "a puddle", "tadpoles", "salt"),
    "bat": ("soft down", "gnats", "a loft", "pups", "bells"),
    "deer": ("a spotted coat", "moss", "a thicket", "fawns", "dogs"),
    "crab": ("a hard shell", "worms", "a pit", "hatchlings", "gulls"),
    "slug": ("slime", "leaves", "a damp log", "specks", "ducks"),
}

# Event -> what becomes of each material, in the order of MATERIALS.
MATERIALS = _list("wood clay wax iron wool glass paper straw leather salt copper stone")
EVENTS: dict[str, tuple[str, ...]] = {
    "fire": _list("burns hardens melts glows stinks cracks burns burns stinks crackles glows cracks"),
    "river": _list("floats softens floats sinks swells sinks softens floats swells dissolves sinks sinks"),
    "frost": _list("shrinks crumbles hardens stiffens stiffens cracks curls hardens stiffens clumps shrinks cracks"),
    "sun": _list("fades dries melts warms fades shines curls dries curls dries warms warms"),
    "rain": _list("rots softens shines rusts stinks shines tears rots stinks clumps darkens darkens"),
    "hammer": _list("splits crumbles flattens rings flattens shatters tears flattens flattens crumbles rings splits"),
}

ITEMS = _list(
    "kettle lantern drum basket rope spoon blanket ladder bucket broom flute whistle bell bowl cloak chair bench boat "
    "cart door box belt wheel barrel candle knife carpet tile boot clock kite hat net pot glove sword comb saddle mask "
    "mirror"
)
# What a thing is done to with: action -> its means. Every (action, item) has one right means in this world.
MEANS: dict[str, tuple[str, ...]] = {
    "clean": _list("sand vinegar soap ash bran chalk"),
    "mend": _list("twine glue pitch wire nails thread"),
    "hang": _list("hooks pegs chains straps rings rope"),
    "mark": _list("ink paint tar soot wax thorns"),
    "wrap": _list("straw wool paper leaves cloth bark"),
    "polish": _list("oil butter clay fur moss salt"),
}

# Five stages of making something; each product has one step of each. (base verb, past, rest)
STAGES: tuple[tuple[tuple[str, str, str], ...], ...] = (
    (
        ("fetch", "fetched", "clean water from the well"),
        ("gather", "gathered", "dry reeds by the pond"),
        ("cut", "cut", "a branch from the old tree"),
        ("dig", "dug", "soft clay from the bank"),
        ("beg", "begged", "thread from a neighbour"),
        ("buy", "bought", "a sheet of copper"),
        ("pull", "pulled", "wool from the fence"),
        ("carry", "carried", "straw from the barn"),
    ),
    (
        ("wash", "washed", "it twice"),
        ("beat", "beat", "it flat"),
        ("soak", "soaked", "it for a night"),
        ("scrape", "scraped", "it clean"),
        ("warm", "warmed", "it by the fire"),
        ("chop", "chopped", "it small"),
        ("comb", "combed", "it smooth"),
        ("dry", "dried", "it in the wind"),
    ),
    (
        ("bend", "bent", "it into a ring"),
        ("fold", "folded", "it in half"),
        ("twist", "twisted", "it tight"),
        ("press", "pressed", "it into a frame"),
        ("roll", "rolled", "it thin"),
        ("carve", "carved", "it with a knife"),
        ("wind", "wound", "it round a post"),
        ("stretch", "stretched", "it over a board"),
    ),
    (
        ("rub", "rubbed", "it with oil"),
        ("bake", "baked", "it in the oven"),
        ("hang", "hung", "it in the smoke"),
        ("cover", "covered", "it with ash"),
        ("boil", "boiled", "it in salt water"),
        ("paint", "painted", "it with pitch"),
        ("brush", "brushed", "it with honey"),
        ("bury", "buried", "it in sand"),
    ),
    (
        ("tie", "tied", "a blue cord round it"),
        ("stamp", "stamped", "a star on it"),
        ("polish", "polished", "it with a cloth"),
        ("trim", "trimmed", "the edges"),
        ("fit", "fitted", "a small handle"),
        ("set", "set", "it on the shelf"),
        ("show", "showed", "it to the town"),
        ("wrap", "wrapped", "it in paper"),
    ),
)
