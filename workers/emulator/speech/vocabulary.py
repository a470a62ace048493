"""The 256 words that `tones` can say: short, plain, all different. The place of a word in the list is its code."""

_WORDS = """
able acid acorn actor adult after again agent album alley amber angle ankle apple april apron
arena arrow atlas audio autumn award badge baker banana barn basin basket beach bean beard bell
bench berry birch bird bison blanket bloom boat bottle bowl brave bread brick bridge broom brush
bucket butter button cabin cable cactus cake camel candle canoe canyon carbon carpet carrot castle cattle
cedar cello chair chalk cherry chess circle citrus clay clock cloud clover cobalt coffee comet copper
coral cotton cousin crane cricket crown crystal cube daisy dancer dawn delta desert diamond dinner dolphin
donkey door dragon drum duck eagle early earth echo edge eight elbow elephant ember empty engine
evening fabric falcon farmer feather fence fern fiddle field finger flag flame flour flute forest fossil
fox frost galaxy garden garlic gate giant ginger glacier glove goat golden granite grape green guitar
hammer harbor harvest hazel helmet heron honey horizon hotel igloo indigo island ivory jacket jaguar jasmine
jelly jewel jungle kettle kitten ladder lantern laptop lemon letter lily lion lizard magnet mango maple
marble market meadow melon meteor mirror monkey morning mountain muffin museum napkin needle night north
november oak ocean olive onion orange orchid otter oven owl oyster paddle panda paper parrot pasta
peach pebble pencil pepper piano pilot planet pocket pony poppy potato prairie pumpkin puzzle
quartz queen rabbit radio raven ribbon river robin rocket saddle salmon sandal saturn seven
shadow silver sister sparrow spider spring summer sunset table temple thunder tiger
timber tomato tulip turtle valley velvet violin walnut winter
"""

VOCABULARY: tuple[str, ...] = tuple(_WORDS.split())
CODES: dict[str, int] = {word: code for code, word in enumerate(VOCABULARY)}
