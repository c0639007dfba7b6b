"""The words, colours and kinds of product that the drawn catalogue is made of. Data only."""

# Domain -> (product nouns, containers that such products are sold in). A pair (noun, container) is one group.
PRODUCTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        ("Oat Drink", "Orange Juice", "Apple Juice", "Iced Tea", "Milk", "Kefir", "Smoothie", "Almond Drink"),
        ("carton", "bottle", "brik", "jug"),
    ),
    (
        ("Cola", "Lemonade", "Tonic Water", "Energy Drink", "Cider", "Kombucha", "Sparkling Water", "Coffee Drink"),
        ("can", "slim can", "bottle", "flask"),
    ),
    (
        ("Rice", "Flour", "Sugar", "Pasta", "Noodles", "Rolled Oats", "Lentils", "Couscous"),
        ("sack", "pouch", "box", "pillow bag"),
    ),
    (
        ("Muesli", "Corn Flakes", "Granola", "Ground Coffee", "Cocoa", "Protein Powder", "Baby Formula", "Nut Mix"),
        ("box", "pouch", "canister", "sack"),
    ),
    (
        ("Honey", "Jam", "Peanut Butter", "Pesto", "Salsa", "Pickles", "Olives", "Chutney"),
        ("jar", "tin", "sauce bottle", "tub"),
    ),
    (
        ("Ketchup", "Mustard", "Mayonnaise", "Soy Sauce", "Olive Oil", "Vinegar", "Chilli Sauce", "Syrup"),
        ("sauce bottle", "tube", "sachet", "bottle"),
    ),
    (
        ("Tomato Soup", "Beans", "Chickpeas", "Tuna", "Sweetcorn", "Coconut Milk", "Sardines", "Peaches"),
        ("tin", "can", "pouch", "jar"),
    ),
    (
        ("Green Tea", "Black Tea", "Herbal Tea", "Hot Chocolate", "Instant Coffee", "Chai", "Mate", "Bouillon"),
        ("wide box", "canister", "sachet", "jar"),
    ),
    (
        ("Crisps", "Popcorn", "Pretzels", "Cookies", "Crackers", "Rice Cakes", "Dried Mango", "Gummies"),
        ("pillow bag", "canister", "wide box", "pouch"),
    ),
    (
        ("Chocolate", "Muesli Bar", "Nougat", "Wafer", "Protein Bar", "Marzipan", "Toffee", "Fruit Bar"),
        ("bar", "box", "sachet", "pillow bag"),
    ),
    (
        ("Yoghurt", "Pudding", "Cream Cheese", "Ice Cream", "Hummus", "Quark", "Porridge", "Rice Pudding"),
        ("cup", "tub", "pouch", "jar"),
    ),
    (
        ("Shampoo", "Conditioner", "Shower Gel", "Hand Soap", "Body Lotion", "Bath Foam", "Mouthwash", "Sun Lotion"),
        ("flask", "pump", "tube", "bottle"),
    ),
    (
        ("Hand Cream", "Face Cream", "Toothpaste", "Hair Wax", "Lip Balm", "Day Cream", "Face Scrub", "Foot Cream"),
        ("tube", "tin", "box", "cup"),
    ),
    (
        ("Deodorant", "Hair Spray", "Shaving Foam", "Air Freshener", "Body Mist", "Dry Shampoo", "Insect Spray"),
        ("aerosol", "spray", "slim can", "pump"),
    ),
    (
        ("Glass Cleaner", "Bath Cleaner", "Kitchen Cleaner", "Floor Polish", "Stain Remover", "Descaler", "Plant Food"),
        ("spray", "flask", "aerosol", "jug"),
    ),
    (
        ("Dish Soap", "Laundry Liquid", "Fabric Softener", "Laundry Powder", "Dishwasher Tabs", "Bleach", "Starch"),
        ("jug", "pouch", "wide box", "flask"),
    ),
    (
        ("Cat Food", "Dog Food", "Bird Seed", "Cat Treats", "Dog Biscuits", "Fish Food", "Hamster Mix"),
        ("sachet", "tin", "sack", "pouch"),
    ),
    (
        ("Batteries", "Light Bulb", "Marker Pens", "Glue Stick", "Razor Blades", "Toothbrush", "Plasters", "Key Tags"),
        ("blister", "wide box", "box", "sachet"),
    ),
    (
        ("Vitamin Tablets", "Fish Oil", "Magnesium", "Cough Drops", "Iron Tonic", "Zinc", "Herbal Syrup", "Probiotic"),
        ("jar", "blister", "wide box", "bottle"),
    ),
    (
        ("Wet Wipes", "Cotton Pads", "Tissues", "Face Mask", "Bath Salt", "Soap Bar", "Nail Care", "Hair Dye"),
        ("pillow bag", "sachet", "box", "pouch"),
    ),
)

# Colour families and the varieties of product, (word, RGB), that shoppers know by such a colour.
FLAVOURS: tuple[tuple[tuple[str, tuple[int, int, int]], ...], ...] = (
    (("Strawberry", (226, 44, 70)), ("Cherry", (198, 20, 52)), ("Tomato", (224, 56, 36)), ("Chilli", (206, 34, 30))),
    (("Orange", (246, 130, 28)), ("Mango", (248, 146, 44)), ("Apricot", (244, 142, 62)), ("Carrot", (238, 116, 30))),
    (("Lemon", (250, 212, 38)), ("Banana", (248, 218, 70)), ("Honey", (240, 196, 34)), ("Pineapple", (250, 206, 56))),
    (("Lime", (150, 202, 42)), ("Apple", (136, 192, 52)), ("Pear", (166, 206, 66)), ("Kiwi", (126, 182, 40))),
    (("Aloe", (28, 142, 82)), ("Pine", (20, 122, 74)), ("Basil", (36, 132, 66)), ("Spearmint", (24, 148, 100))),
    (("Menthol", (28, 180, 196)), ("Ocean", (22, 164, 190)), ("Eucalyptus", (44, 188, 184)), ("Fresh", (60, 190, 210))),
    (("Classic", (30, 74, 168)), ("Blueberry", (48, 72, 176)), ("Sport", (24, 88, 188)), ("Night", (44, 62, 156))),
    (("Grape", (118, 54, 158)), ("Plum", (106, 42, 136)), ("Lilac", (136, 78, 178)), ("Fig", (98, 46, 126))),
    (("Rose", (238, 110, 158)), ("Peony", (234, 92, 146)), ("Raspberry", (222, 62, 132)), ("Guava", (242, 128, 152))),
    (("Cocoa", (104, 64, 44)), ("Coffee", (88, 56, 42)), ("Hazelnut", (128, 80, 50)), ("Malt", (120, 72, 40))),
    (("Charcoal", (56, 58, 66)), ("Poppy", (46, 48, 56)), ("Liquorice", (38, 38, 46)), ("Intense", (66, 66, 72))),
)

# (ground, second colour, ink): palettes that a whole family shares.
PALETTES: tuple[tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]], ...] = (
    ((248, 246, 240), (206, 214, 222), (38, 52, 84)),
    ((250, 240, 214), (222, 190, 130), (96, 52, 30)),
    ((30, 62, 112), (92, 138, 190), (250, 250, 246)),
    ((178, 32, 42), (238, 196, 112), (255, 246, 230)),
    ((26, 96, 72), (170, 200, 120), (248, 246, 226)),
    ((236, 224, 204), (170, 142, 110), (70, 44, 34)),
    ((36, 38, 44), (196, 160, 88), (244, 236, 214)),
    ((214, 232, 244), (120, 172, 210), (24, 60, 110)),
    ((238, 214, 222), (202, 126, 152), (110, 26, 66)),
    ((226, 236, 206), (142, 176, 92), (46, 78, 30)),
    ((96, 46, 112), (196, 150, 206), (250, 240, 250)),
    ((242, 182, 44), (252, 226, 140), (84, 40, 12)),
    ((14, 120, 138), (138, 208, 206), (246, 252, 250)),
    ((226, 98, 40), (250, 196, 120), (255, 248, 236)),
    ((200, 208, 214), (130, 142, 154), (30, 36, 46)),
    ((98, 62, 44), (206, 166, 112), (252, 240, 220)),
    ((232, 228, 244), (160, 146, 206), (60, 42, 112)),
    ((62, 128, 60), (234, 216, 96), (252, 252, 232)),
    ((222, 62, 96), (252, 190, 196), (255, 246, 246)),
    ((250, 250, 250), (226, 52, 52), (40, 40, 44)),
    ((250, 250, 248), (36, 112, 180), (18, 46, 92)),
    ((250, 250, 244), (62, 146, 82), (22, 66, 40)),
)

# Every size has a volume and a weight; a family is sold in volumes or in weights.
LIQUIDS = (
    *("Drink", "Juice", "Tea", "Milk", "Kefir", "Smoothie", "Cola", "Lemonade", "Water", "Cider"),
    *("Kombucha", "Sauce", "Oil", "Vinegar", "Syrup", "Ketchup", "Shampoo", "Conditioner", "Gel", "Soap"),
    *("Lotion", "Foam", "Mouthwash", "Spray", "Deodorant", "Freshener", "Mist", "Cleaner", "Polish", "Remover"),
    *("Descaler", "Liquid", "Softener", "Bleach", "Tonic", "Plant Food"),
)
VOLUMES = ("100ml", "150ml", "200ml", "250ml", "330ml", "400ml", "500ml", "750ml", "1L", "1.5L", "2L")
WEIGHTS = ("40g", "75g", "100g", "150g", "200g", "250g", "350g", "400g", "500g", "750g", "1kg")

BRAND_STARTS = (
    *("Al", "Bel", "Bri", "Cal", "Cor", "Dal", "Del", "Dor", "El", "Fen"),
    *("Fio", "Gal", "Gren", "Hal", "Hol", "Il", "Jor", "Kal", "Kel", "Lar"),
    *("Lin", "Lum", "Mar", "Mel", "Mon", "Nal", "Nor", "Ol", "Or", "Pal"),
    *("Per", "Pol", "Quin", "Ral", "Ros", "Sal", "Sel", "Sol", "Tal", "Tor"),
    *("Ul", "Val", "Ver", "Vil", "Wes", "Yar", "Zel", "Zor"),
)
BRAND_MIDDLES = (
    *("a", "ba", "be", "da", "di", "do", "e", "ga", "go", "i"),
    *("la", "le", "li", "lo", "ma", "mi", "na", "ne", "no", "o"),
    *("ra", "ri", "ro", "sa", "si", "ta", "ti", "to", "va", "vi"),
)
BRAND_ENDS = (
    *("ra", "na", "lia", "ro", "no", "va", "do", "ta", "lle", "nde"),
    *("sca", "mo", "rin", "lis", "ne", "x", "co", "so", "via", "by"),
    *("ne", "ga", "mar", "nt", "ss"),
)
