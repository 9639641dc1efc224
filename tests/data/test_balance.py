from data.verify import count_classes, imbalance, unbalanced_line


def test_counts_are_in_the_order_of_the_classes():
    counts = count_classes(['dog', 'cat', 'dog'], ['emu', 'cat', 'dog'])
    assert list(counts.items()) == [('emu', 0), ('cat', 1), ('dog', 2)]


def test_unbalanced_if_one_class_has_over_twice_as_many_images():
    assert imbalance({'cat': 40, 'dog': 20, 'emu': 30}) is None
    assert imbalance({'cat': 1041, 'dog': 500, 'emu': 520}) == ('cat', 'dog')
    assert unbalanced_line({'cat': 40, 'dog': 20}) is None
    assert unbalanced_line({'cat': 1041, 'dog': 500, 'emu': 520}) == (
        'the classes are unbalanced: 1,041 training images of cat, 500 of dog; the accuracy says more about the large '
        'ones, per_class.csv about each'
    )
