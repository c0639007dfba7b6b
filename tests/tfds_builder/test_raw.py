import json
import pickle
import re

import numpy as np
import pytest

from tests.tfds_builder.raw_fixtures import encode, of, picture, small_raw, write, write_tree, write_zip
from tfds_builder import raw


def test_tables_hold_what_the_files_say(tmp_path):
    made = small_raw()
    catalogue = raw.open_catalogue(write(made, tmp_path))
    assert catalogue.train.name == tuple(made.train)
    assert catalogue.test.name == tuple(made.test)
    np.testing.assert_array_equal(catalogue.train.label, np.repeat(np.arange(4), 6))
    np.testing.assert_array_equal(catalogue.train.group, np.repeat([0, 0, 1, 1], 6))
    np.testing.assert_array_equal(catalogue.test.group, np.repeat([0, 0, 1, 1], 2))  # the test CSV has none
    assert catalogue.test.usage == ("public", "private") * 4
    assert set(catalogue.train.usage) == {""}
    assert catalogue.train.size.tolist() == [len(data) for data in made.train.values()]
    assert (catalogue.class_names, catalogue.group_names) == (("0", "1", "2", "3"), ("0", "1"))
    assert (catalogue.num_classes, catalogue.num_groups) == (4, 2)
    for split, pictures in (("train", made.train), ("test", made.test)):
        for name, data in pictures.items():
            assert catalogue.read(split, name) == data


LAYOUTS = ["zips", "root_zips", "deflated", "extracted", "nested", "bundle"]


def test_all_layouts_are_one_catalogue(tmp_path):
    made = small_raw()
    opened = {layout: raw.open_catalogue(write(made, tmp_path / layout, layout)) for layout in LAYOUTS}
    opened["bundle as a file"] = raw.open_catalogue(tmp_path / "bundle" / "products-10k.zip")
    assert len({catalogue.source_fingerprint for catalogue in opened.values()}) == 1
    for catalogue in opened.values():
        assert catalogue.read("test", "9003.jpg") == made.test["9003.jpg"]


def test_archives_of_other_names_and_a_bundle_without_tables(tmp_path):
    made = small_raw()
    (tmp_path / "train.csv").write_text(made.train_csv)
    (tmp_path / "test_kaggletest.csv").write_text(made.test_csv)
    members = {f"data/train/train/{name}": data for name, data in made.train.items()}
    members |= {f"data/test/{name}": data for name, data in made.test.items()}
    write_zip(tmp_path / "images.zip", {name.removeprefix("data/"): data for name, data in members.items()})
    assert len(raw.open_catalogue(tmp_path).train) == 24


def test_a_bundle_with_names_only_and_the_answers_beside_it(tmp_path):
    made = small_raw()
    tables = {"train.csv": made.train_csv, "test.csv": "name\n" + "\n".join(made.test) + "\n"}
    members = {f"products-10k/{name}": text.encode() for name, text in tables.items()}
    members |= {f"products-10k/train/train/{name}": data for name, data in made.train.items()}
    members |= {f"products-10k/test/test/{name}": data for name, data in made.test.items()}
    write_zip(tmp_path / "products-10k.zip", members)
    with pytest.raises(raw.RawLayoutError, match=r"put test_kaggletest\.csv"):
        raw.open_catalogue(tmp_path)
    (tmp_path / "test_kaggletest.csv").write_text(made.test_csv)
    assert raw.open_catalogue(tmp_path).test.usage == ("public", "private") * 4


def test_archive_counts_where_its_unpacked_folder_lies_beside(tmp_path):
    made = small_raw()
    write(made, tmp_path, "zips")
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "1.jpg").write_bytes(b"half unpacked")
    assert raw.open_catalogue(tmp_path).read("train", "1.jpg") == made.train["1.jpg"]


def test_text_and_name_variants_are_tolerated(tmp_path):
    made = small_raw()
    plain = raw.open_catalogue(write(made, tmp_path / "plain", "extracted"))
    odd = write(made, tmp_path / "odd", "extracted")
    (odd / "train.csv").write_bytes(b"\xef\xbb\xbf" + made.train_csv.replace("\n", "\r\n").encode() + b"\r\n")
    (odd / "train" / "1.jpg").rename(odd / "train" / "1.JPG")
    (odd / "train" / ".DS_Store").write_bytes(b"x")
    (odd / "__MACOSX" / "train").mkdir(parents=True)
    (odd / "__MACOSX" / "train" / "1.jpg").write_bytes(b"x")
    (odd / "train" / "notes.txt").write_bytes(b"x")
    assert raw.open_catalogue(odd).source_fingerprint == plain.source_fingerprint


def test_test_csv_with_classes_is_enough(tmp_path):
    made = small_raw()
    made.test_csv_name = "test.csv"
    made.test_csv = "\n".join(line.rpartition(",")[0] for line in made.test_csv.splitlines())
    assert set(raw.open_catalogue(write(made, tmp_path)).test.usage) == {""}


def test_a_table_without_groups_has_one_group(tmp_path):
    made = small_raw()
    made.train_csv = "\n".join(line.rpartition(",")[0] for line in made.train_csv.splitlines())
    catalogue = raw.open_catalogue(write(made, tmp_path))
    assert catalogue.group_names == ("all",)
    assert not catalogue.train.group.any()


def test_a_pickled_catalogue_reads(tmp_path):
    made = small_raw()
    catalogue = raw.open_catalogue(write(made, tmp_path))
    catalogue.read("train", "1.jpg")
    again = pickle.loads(pickle.dumps(catalogue))
    assert again.read("train", "2.jpg") == made.train["2.jpg"]
    assert again.source_fingerprint == catalogue.source_fingerprint
    with pytest.raises(KeyError, match="nothing"):
        again.read("train", "nothing.jpg")


def test_selected_pictures_are_those_of_the_catalogue_after_json_too(tmp_path):
    made = small_raw()
    for name, data in made.tables().items():
        (tmp_path / name).write_bytes(data)
    members = {f"{split}/{name}": data for split in ("train", "test") for name, data in of(made, split)}
    for number in range(2):  # two archives, each with every second picture
        write_zip(tmp_path / f"{number}.zip", dict(list(members.items())[number::2]))
    catalogue = raw.open_catalogue(tmp_path)
    for split, rows in (("train", np.array([7, 2, 3, 20])), ("test", np.array([4, 0]))):
        selected = catalogue.select(split, rows)
        assert sum(len(source.paths) for source in selected.sources) == len(rows)
        again = raw.pictures_of_json(json.loads(json.dumps(selected.to_json())))
        for pictures in (selected, again):
            assert [pictures.read_row(row) for row in range(len(rows))] == [
                catalogue.read_row(split, row) for row in rows.tolist()
            ]
            for column, value in vars(catalogue.table(split)).items():
                assert list(getattr(pictures.table, column)) == [value[row] for row in rows]


def test_fingerprint_sees_labels_names_and_sizes(tmp_path):
    prints = {raw.open_catalogue(write(small_raw(), tmp_path / "same")).source_fingerprint}
    for number, change in enumerate(("label", "usage", "size")):
        made = small_raw()
        if change == "label":
            made.test_csv = made.test_csv.replace("9000.jpg,0", "9000.jpg,1")
        elif change == "usage":
            made.test_csv = made.test_csv.replace("9000.jpg,0,Public", "9000.jpg,0,Private")
        else:
            made.train["1.jpg"] += b"x"
        prints.add(raw.open_catalogue(write(made, tmp_path / str(number))).source_fingerprint)
    assert len(prints) == 4


def test_class_names(tmp_path):
    made = small_raw()
    made.classes_csv = (
        'class,class_name,group,group_name\n0,Öl,0,Food\n1,"Tea, green",0,Food\n2,日本茶,1,Drink\n3,d,1,Drink\n'
    )
    catalogue = raw.open_catalogue(write(made, tmp_path))
    assert catalogue.class_names == ("Öl", "Tea, green", "日本茶", "d")
    assert catalogue.group_names == ("Food", "Drink")


def replace_in(attribute, old, new):
    def change(made):
        text = getattr(made, attribute)
        assert old in text
        setattr(made, attribute, text.replace(old, new, 1))

    return change


def drop_picture(made):
    del made.train["3.jpg"]
    del made.train["5.jpg"]


def add_picture(made):
    made.test["777.jpg"] = encode(picture(0))


def name_only(made):
    made.test_csv_name = "test.csv"
    made.test_csv = "name\n" + "\n".join(made.test) + "\n"


def two_files_of_one_name(made):
    made.train["other/1.jpg"] = made.train["1.jpg"]


def two_names_of_one_file(made):
    del made.train["2.jpg"]
    made.train_csv = made.train_csv.replace("\n1.jpg", "\n1.JPG").replace("\n2.jpg", "\n1.JPg")


CLASSES = "class,class_name,group,group_name\n0,a,0,x\n1,b,0,x\n2,c,1,y\n3,d,1,y\n"

BAD_TABLES = {
    "column missing": (
        replace_in("train_csv", "name,class,group", "name,klass,group"),
        r"train\.csv has no column 'class'; its header is name,klass,group\. Wanted: name,class,group",
    ),
    "name doubled": (
        replace_in("train_csv", "\n2.jpg,0", "\n1.jpg,0"),
        r"train\.csv, row 3: name '1\.jpg' is already in row 2.*take one row out",
    ),
    "name in both splits": (
        replace_in("test_csv", "9000.jpg", "1.jpg"),
        r"test_kaggletest\.csv, row 2: name '1\.jpg' is also in .*train\.csv, row 2.*rename",
    ),
    "class not a number": (
        replace_in("train_csv", "1.jpg,0,0", "1.jpg,shampoo,0"),
        r"train\.csv, row 2: class 'shampoo' is not an integer from 0 .* classes\.csv",
    ),
    "class negative": (replace_in("train_csv", "1.jpg,0,0", "1.jpg,-1,0"), r"row 2: class '-1' is not an integer"),
    "class absurd": (
        replace_in("train_csv", "1.jpg,0,0", "1.jpg,99999999999,0"),
        r"class '99999999999' is not an integ",
    ),
    "class absurd behind zeros": (
        replace_in("train_csv", "1.jpg,0,0", f"1.jpg,{'0' * 9}{2**64},0"),
        r"class '0000000001844674.*' is not an integer from 0 to 9,999,999",
    ),
    "class of 5,000 digits": (
        replace_in("train_csv", "1.jpg,0,0", f"1.jpg,{'9' * 5000},0"),
        r"class '9{98} is not an integer",
    ),
    "group absurd": (
        replace_in("train_csv", "1.jpg,0,0", "1.jpg,0,1000000"),
        r"group '1000000' is not an integer from 0 to 999,999",
    ),
    "header without end": (replace_in("train_csv", "name,", f"{'n' * 200_000},"), r"row 1: field larger than field"),
    "column doubled": (
        replace_in("train_csv", "name,class,group", "class,class,name"),
        r"train\.csv has column 'class' twice, .* Drop one",
    ),
    "one picture for two rows": (
        two_names_of_one_file,
        r"train\.csv, row 3: name '1\.JPg' differs only in case from '1\.JPG', .* Take one row out",
    ),
    "gap in classes": (
        replace_in("train_csv", "1.jpg,0,0", "1.jpg,6,0"),
        r"2 ids below the highest, 6 \(row 2\), have no picture; first: 4, 5\. .* number the classes anew",
    ),
    "test class unknown": (
        replace_in("test_csv", "9000.jpg,0", "9000.jpg,4"),
        r"test_kaggletest\.csv, row 2: class 4 is out of range: .*train\.csv has classes 0\.\.3.*Add training",
    ),
    "class with two groups": (
        replace_in("train_csv", "2.jpg,0,0", "2.jpg,0,1"),
        r"train\.csv, row 3: class 0 is in group 1, but in group 0 in row 2.*correct one",
    ),
    "row without picture": (
        drop_picture,
        r"train\.csv: 2 of 24 rows have no picture in train: '3\.jpg' \(row 4\), '5\.jpg' \(row 6\)\. Get the whole",
    ),
    "picture without row": (
        add_picture,
        r"test_kaggletest\.csv: 1 pictures of test have no row: '777\.jpg'\. Add rows",
    ),
    "two files of one name": (two_files_of_one_name, r"two pictures of train are called '1\.jpg'\. Keep one"),
    "path in a name": (
        replace_in("train_csv", "\n1.jpg", "\n../1.jpg"),
        r"train\.csv, row 2: name '\.\./1\.jpg' must be a plain file name",
    ),
    "absolute name": (replace_in("test_csv", "\n9000.jpg", "\n/etc/9000.jpg"), r"row 2: name '/etc/9000\.jpg' must be"),
    "names only": (name_only, r"test\.csv has no column 'class'.*Kaggle's list of names.* put test_kaggletest\.csv"),
    "usage unknown": (
        replace_in("test_csv", "Public", "Secret"),
        r"row 2: Usage 'Secret' is neither Public nor Private",
    ),
    "row cut short": (replace_in("train_csv", "1.jpg,0,0", "1.jpg,0"), r"row 2: '1\.jpg,0' has 2 of 3 columns"),
    "no rows": (lambda made: setattr(made, "train_csv", "name,class,group\n"), r"train\.csv has a header but no rows"),
    "not UTF-8": (replace_in("train_csv", "1.jpg", "\udcff.jpg"), r"train\.csv is not UTF-8"),
    "class names: missing class": (
        lambda made: setattr(made, "classes_csv", CLASSES.replace("3,d,1,y\n", "")),
        r"name different classes: 1 are in one of them only, first 3",
    ),
    "class names: doubled": (
        lambda made: setattr(made, "classes_csv", CLASSES.replace("1,b", "1,a")),
        r"classes\.csv: class name 'a' is that of 0 and of 1\. .*rename one",
    ),
    "class names: other group": (
        lambda made: setattr(made, "classes_csv", CLASSES.replace("1,b,0,x", "1,b,1,y")),
        r"classes\.csv: class 1 is in group 1, but .*train\.csv has it in group 0",
    ),
    "class names: control character": (
        lambda made: setattr(made, "classes_csv", CLASSES.replace("1,b", '1,"b\nc"')),
        r"class_name 'b\\nc' holds a control character",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables_are_named(tmp_path, case):
    change, message = BAD_TABLES[case]
    made = small_raw()
    change(made)
    folder = write(made, tmp_path, "extracted") if "file" not in case else write_nested_double(made, tmp_path)
    with pytest.raises(raw.RawLayoutError) as error:
        raw.open_catalogue(folder)
    assert re.search(message, str(error.value), re.DOTALL), error.value


def write_nested_double(made, folder):
    (folder / "train" / "other").mkdir(parents=True)
    return write(made, folder, "zips")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("train.zip", r"train\.csv lists 24 pictures, but .* holds neither train\.zip .* Put train\.zip beside"),
        ("test.zip", r"lists 8 pictures, but .* holds neither test\.zip"),
        ("test_kaggletest.csv", r"neither test_kaggletest\.csv \(name,class,Usage\) nor a test\.csv"),
        ("train.csv", r"holds test_kaggletest\.csv but no train\.csv.*Expected are"),
    ],
)
def test_missing_files_are_named(tmp_path, missing, message):
    folder = write(small_raw(), tmp_path)
    (folder / missing).unlink()
    with pytest.raises(raw.RawLayoutError, match=message):
        raw.open_catalogue(folder)


def test_archives_without_any_table_are_no_folder_tree(tmp_path):
    folder = write(small_raw(), tmp_path)
    (folder / "train.csv").unlink()
    (folder / "test_kaggletest.csv").unlink()
    with pytest.raises(raw.RawLayoutError, match=r"train\.csv is missing, and picture .* lies in no class folder"):
        raw.open_catalogue(folder)


def test_a_renamed_archive_without_split_folder_is_named(tmp_path):
    folder = write(small_raw(), tmp_path, "root_zips")
    (folder / "train.zip").rename(folder / "train_images.zip")
    with pytest.raises(raw.RawLayoutError, match=r"holds neither train\.zip with pictures"):
        raw.open_catalogue(folder)


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(
        raw.RawLayoutError, match=r"no pictures and no train\.csv \(it is empty\)\. Expected are train\.csv"
    ):
        raw.open_catalogue(tmp_path)
    with pytest.raises(raw.RawLayoutError, match=r"There is no folder .*nowhere"):
        raw.open_catalogue(tmp_path / "nowhere")


def test_tree_with_both_splits(tmp_path):
    write_tree(tmp_path, {"train/b c": 3, "train/Ä": 2, "train/a": 2, "test/a": 1, "test/Ä": 2})
    catalogue = raw.open_catalogue(tmp_path)
    assert catalogue.class_names == ("a", "b c", "Ä")
    assert catalogue.train.name[:3] == ("train/a/0.jpg", "train/a/1.jpg", "train/b c/0.jpg")
    assert catalogue.test.name == ("test/a/0.jpg", "test/Ä/0.jpg", "test/Ä/1.jpg")
    assert catalogue.test.label.tolist() == [0, 2, 2]
    assert catalogue.read("test", "test/a/0.jpg") == (tmp_path / "test" / "a" / "0.jpg").read_bytes()


def test_single_tree_gives_every_class_a_part_of_test(tmp_path):
    write_tree(tmp_path, {"a": 10, "b": 3, "c": 1, "d/left": 2, "d/right": 3})
    catalogue = raw.open_catalogue(tmp_path)
    assert catalogue.class_names == ("a", "b", "c", "d")
    assert np.bincount(catalogue.test.label, minlength=4).tolist() == [2, 1, 0, 1]  # 20 %; one of one stays in train
    assert np.bincount(catalogue.train.label).tolist() == [8, 2, 1, 4]
    names = {*catalogue.train.name, *catalogue.test.name}
    assert len(names) == 19
    assert "d/left/0.jpg" in names
    half = raw.open_catalogue(tmp_path, test_percent=50)
    assert np.bincount(half.test.label, minlength=4).tolist() == [5, 2, 0, 3]
    assert raw.open_catalogue(tmp_path, seed=1).test.name != catalogue.test.name
    assert raw.open_catalogue(tmp_path).test.name == catalogue.test.name


def test_tree_in_a_wrapping_folder_and_in_an_archive(tmp_path):
    write_tree(tmp_path / "made", {"x/y/a": 5, "x/y/b": 5})
    wrapped = raw.open_catalogue(tmp_path / "made")
    assert wrapped.class_names == ("a", "b")
    (tmp_path / "packed").mkdir()
    members = {f"{c}/{i}.jpg": (tmp_path / f"made/x/y/{c}/{i}.jpg").read_bytes() for c in "ab" for i in range(5)}
    write_zip(tmp_path / "packed" / "shop.zip", members)
    assert raw.open_catalogue(tmp_path / "packed").source_fingerprint == wrapped.source_fingerprint


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"train/a": 2, "test/b": 2}, r"class folder 'b' is in test/ but not in train/"),
        ({"train/a": 2, "val/a": 2}, r"beside train/ there is folder 'val' with pictures"),
        ({"train": 2, "train/a": 2}, r"picture 'train/0\.jpg' lies in no class folder"),
        ({"a": 1, "b": 1}, r"every class has a single picture"),
        ({"a\x07b": 2, "c": 2}, r"class folder 'a\\x07b' holds a control character"),
    ],
)
def test_bad_trees_are_named(tmp_path, tree, message):
    with pytest.raises(raw.RawLayoutError, match=message):
        raw.open_catalogue(write_tree(tmp_path, tree))


@pytest.mark.parametrize("name", ["a/\udcff.jpg", "a/\x1b[2J.jpg", "\udcff/1.jpg"])
def test_names_of_a_tree_that_are_no_text_are_named(tmp_path, name):
    write_tree(tmp_path, {"a": 3, "b": 3})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(encode(picture(0)))
    with pytest.raises(
        raw.RawLayoutError, match=r"(name|folder) .* (is not valid UTF-8|holds a control character)\. Rename it"
    ):
        raw.open_catalogue(tmp_path)


def test_test_percent_is_only_for_single_trees(tmp_path):
    with pytest.raises(raw.RawLayoutError, match=r"brings its own test split.*'test30'"):
        raw.open_catalogue(write(small_raw(), tmp_path), test_percent=30)


def test_official_refuses_other_catalogues(tmp_path):
    with pytest.raises(raw.RawLayoutError) as error:
        raw.open_catalogue(write(small_raw(), tmp_path), official=True)
    assert "training pictures: expected 141931, found 24" in str(error.value)
    assert "groups: expected 360, found 2" in str(error.value)
    assert "sku_catalogue" in str(error.value)
    write_tree(tmp_path / "tree", {"a": 2, "b": 2})
    with pytest.raises(raw.RawLayoutError, match=r"holds no train\.csv.*sku_catalogue"):
        raw.open_catalogue(tmp_path / "tree", official=True)
