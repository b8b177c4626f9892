from mixnmatch.metrics.literature import PUBLISHED, table


def test_each_number_names_its_source() -> None:
    assert {number.data_set for number in PUBLISHED} == {"cub", "dogs", "cars"}
    assert len(PUBLISHED) == len(set(PUBLISHED))
    for number in PUBLISHED:
        assert number.source.startswith("https://")
        assert number.protocol
        assert number.checked == "at the source" or "https://" in number.checked
        assert number.value > 0


def test_table_is_that_of_a_data_set() -> None:
    birds = table("cub")
    assert [number.value for number in birds if number.measure == "FID"] == [11.25, 22.08, 18.79]
    assert {number.by for number in birds} == {"its authors", "others"}
    assert [n.value for n in table("dogs") if n.measure.startswith("clustering")] == [0.233, 0.079]
    assert table("factors") == ()
