"""Sentences for the training of the text tower: everyday words in templates, without images.

The tower learns the sentence encoder's similarities of words from them; which words belong to which image is learned
from captions alone. The list of names was written without use of the evaluation's synonyms. Some of those are in it,
because they are everyday words, as the model card says.
"""

import random
from collections.abc import Sequence

THINGS = """
bed|bunk bed|double bed|crib|cot|cradle|hammock|mattress|headboard|table|dining table|coffee table|side table
end table|bedside table|night stand|nightstand|desk|writing desk|workbench|counter|countertop|kitchen counter
bar|sofa|couch|settee|loveseat|sectional|futon|armchair|chair|office chair|dining chair|rocking chair|wheelchair
stool|bar stool|bench|ottoman|footstool|pouf|beanbag|recliner|throne|high chair|dresser|chest of drawers|drawer
wardrobe|closet|cupboard|cabinet|filing cabinet|kitchen cabinet|sideboard|bureau|locker|shelf|shelves|bookshelf
bookcase|rack|coat rack|shoe rack|wine rack|door|front door|sliding door|gate|doorway|window|window frame
windowsill|skylight|blinds|shutter|curtain|curtains|drapes|shower curtain|canopy|awning|bathtub|bath|tub|shower
shower cabin|jacuzzi|toilet|lavatory|restroom|urinal|bidet|sink|washbasin|basin|faucet|tap|refrigerator|fridge
freezer|icebox|oven|stove|cooker|hob|microwave|toaster|dishwasher|washing machine|washer|dryer|vacuum cleaner
iron|ironing board|fan|ceiling fan|heater|radiator|fireplace|chimney|air conditioner|boiler|lamp|floor lamp
table lamp|desk lamp|lantern|chandelier|light|lightbulb|spotlight|candle|candlestick|torch|television|tv
television set|screen|monitor|computer screen|display|projector|laptop|notebook computer|computer
desktop computer|tablet|keyboard|computer keyboard|mouse|joystick|game console|printer|scanner|router|speaker
loudspeaker|radio|stereo|headphones|microphone|telephone|phone|smartphone|mobile phone|camera|remote control
charger|cable|battery|plug|socket|switch|clock|wall clock|alarm clock|watch|timer|thermometer|mirror|picture
painting|photograph|poster|print|portrait|frame|picture frame|canvas|drawing|tapestry|map|calendar|blackboard
whiteboard|rug|carpet|mat|doormat|floor mat|tile|tiles|floor|flooring|ground|parquet|wall|wallpaper|brick wall
ceiling|roof|beam|column|pillar|stairs|staircase|ladder|railing|banister|cushion|pillow|throw pillow|bolster
blanket|quilt|duvet|bedspread|sheet|towel|napkin|tablecloth|cloth|fabric|bin|trash can|rubbish bin|wastebasket
dustbin|garbage can|recycling bin|basket|laundry basket|bucket|pail|hamper|box|cardboard box|carton|crate|chest
trunk|case|container|package|parcel|tin|can|jar|barrel|tank|bottle|water bottle|wine bottle|flask|thermos|jug
pitcher|carafe|decanter|vase|flower vase|urn|pot|flowerpot|planter|plant|houseplant|potted plant|flower|flowers
bouquet|rose|tulip|cactus|fern|palm|bush|shrub|tree|leaf|grass|ivy|bonsai|mug|coffee mug|cup|teacup|coffee cup
beaker|tumbler|glass|wine glass|goblet|tankard|saucer|teapot|kettle|tea kettle|coffee pot|coffee maker
espresso machine|bowl|salad bowl|fruit bowl|dish|plate|dinner plate|platter|tray|pan|frying pan|saucepan|wok|lid
fork|knife|spoon|ladle|spatula|whisk|chopsticks|cutlery|chopping board|blender|mixer|grater|colander|rolling pin
book|novel|textbook|dictionary|magazine|newspaper|notebook|diary|album|paper|letter|envelope|folder|binder|pen
pencil|crayon|marker|eraser|ruler|scissors|stapler|tape|glue|brush|paintbrush|easel|toy|doll|teddy bear|toy car
building blocks|puzzle|board game|chess|dice|cards|kite|balloon|ball|football|soccer ball|basketball|tennis ball
beach ball|bowling ball|globe|marble|racket|bat|frisbee|skateboard|skis|sled|helmet|dumbbell|treadmill
exercise bike|yoga mat|trampoline|guitar|acoustic guitar|electric guitar|bass guitar|ukulele|banjo|violin|cello
piano|grand piano|harp|drum|trumpet|flute|saxophone|accordion|bicycle|bike|mountain bike|tricycle|scooter
motorcycle|moped|car|automobile|truck|bus|van|train|tram|airplane|helicopter|boat|ship|canoe|tent|backpack
rucksack|knapsack|school bag|bag|handbag|purse|suitcase|luggage|briefcase|wallet|umbrella|shoe|shoes|sneaker
trainer|boot|boots|sandal|slipper|high heel|sock|hat|cap|scarf|glove|coat|jacket|shirt|sweater|dress|skirt
trousers|jeans|belt|tie|hanger|ring|necklace|glasses|sunglasses|comb|hairbrush|hairdryer|toothbrush|toothpaste
soap|shampoo|sponge|razor|perfume|tissue|toilet paper|broom|mop|dustpan|hammer|saw|screwdriver|wrench|drill|nail
screw|rope|chain|key|lock|handle|knob|hook|hinge|pipe|wire|hose|shovel|rake|lawnmower|wheelbarrow|fence|statue
sculpture|figurine|vase of flowers|trophy|medal|gift|fruit|banana|apple|orange|pear|peach|plum|cherry|grape
strawberry|lemon|lime|melon|watermelon|pineapple|mango|kiwi|coconut|avocado|tomato|potato|carrot|onion|garlic
pepper|cucumber|lettuce|cabbage|broccoli|mushroom|corn|pumpkin|bread|loaf|bagel|croissant|cake|pie|cookie
biscuit|donut|pizza|sandwich|hamburger|hot dog|cheese|egg|milk|juice|coffee|tea|water|wine|beer|soup|salad|rice
pasta|meat|fish|chicken|cat|dog|bird|parrot|horse|cow|sheep|pig|rabbit|hamster|aquarium|birdcage|person|man
woman|child|baby|boy|girl|hand|face|eye|hair|house|building|room|bedroom|bathroom|kitchen|living room|office
hallway|garage|garden|balcony|corridor|attic|basement|furniture|appliance|vehicle|musical instrument|clothing
footwear|food|drink|tool|device|electronics|decoration|crockery|tableware|stationery|sports equipment|object
stuff|texture|background|sky|cloud|sun|moon|street|road|bridge|mountain|river|lake|beach|forest|field|snow|stone
rock|sand
""".replace("\n", "|")
GENERAL = frozenset(
    """
room|bedroom|bathroom|kitchen|living room|office|hallway|garage|garden|balcony|corridor|attic|basement|furniture
appliance|vehicle|musical instrument|clothing|footwear|food|drink|tool|device|electronics|decoration|crockery|tableware
stationery|sports equipment|object|stuff|texture|background
""".replace("\n", "|").split("|")
)
"""Names of categories and places, which apply to many objects at once."""
COLOURS = """
red green blue yellow orange purple violet pink brown black white grey gray beige cream tan turquoise teal cyan magenta
maroon navy olive gold golden silver bronze copper crimson scarlet lime mint lavender indigo coral salmon peach ivory
charcoal dark light pale bright
""".split()
MATERIALS = """
wooden metal plastic glass leather fabric stone marble brick concrete ceramic wicker steel paper rubber velvet striped
checked spotted plain patterned shiny matte woven tiled painted
""".split()
SIZES = "small big large tall short low high wide narrow long thin thick round square old new modern tiny huge".split()
PLAIN = ("{}", "a {}", "the {}", "a photo of a {}", "a picture of a {}")
RELATIONS = "next to;beside;on;under;in front of;behind;near;above;and;with;by;left of;right of;on top of".split(";")
SCENES = ("{}", "a room with {}", "there is {}", "a photo of {}", "a view of {}", "{} in a room", "{} on the floor")


def instances(more: Sequence[str] = ()) -> list[str]:
    """Names of everyday objects, after `more`, without duplicates, in a fixed order."""
    found = [part.strip() for part in THINGS.split("|")]
    return list(dict.fromkeys([*more, *(instance for instance in found if instance)]))


def sentences(words: Sequence[str], kinds: Sequence[str], colours: Sequence[str], count: int, seed: int) -> list[str]:
    """Training sentences: every word and name alone, then `count` random ones.

    Args:
        words: the vocabulary's words.
        kinds: names of the rendered objects; they occur more often than others, since most queries are about them.
        colours: names of the rendered colours.
        count: number of sentences with attributes and relations.
        seed: of the random sentences.
    """
    draw = random.Random(seed)
    every = instances(kinds)
    made = [template.format(instance) for instance in every for template in PLAIN]
    made += [*words, *(draw.choice(PLAIN[1:]).format(word) for word in words)]
    palette = [*COLOURS, *colours, *colours]
    made += [f"a {colour} {kind}" for kind in kinds for colour in dict.fromkeys(colours)]
    made += [colour for colour in palette] + [f"{colour} things" for colour in palette]

    def instance() -> str:
        name = draw.choice(kinds) if kinds and draw.random() < 0.5 else draw.choice(every)
        attributes = []
        if draw.random() < 0.25:
            attributes.append(draw.choice(SIZES))
        if draw.random() < 0.6:
            attributes.append(draw.choice(palette))
        if draw.random() < 0.25:
            attributes.append(draw.choice(MATERIALS))
        return f"{draw.choice(('a', 'a', 'a', 'the', 'one'))} {' '.join([*attributes, name])}"

    for _ in range(count):
        text = instance()
        if draw.random() < 0.35:
            text = f"{text} {draw.choice(RELATIONS)} {instance()}"
            if draw.random() < 0.2:
                text = f"{text}, {instance()}"
        made.append(draw.choice(SCENES).format(text) if draw.random() < 0.4 else text)
    return list(dict.fromkeys(made))
