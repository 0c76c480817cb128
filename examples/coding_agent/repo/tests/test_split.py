import pytest
from tally import Bill, split_evenly


def test_a_bill_that_divides_is_shared_evenly():
    assert Bill.of("12.60", "3.30").shares(3) == [530, 530, 530]


@pytest.mark.parametrize(("cents", "people"), [(1000, 3), (1001, 3), (5, 4), (99, 7)])
def test_no_cent_is_lost(cents, people):
    assert sum(split_evenly(cents, people)) == cents


@pytest.mark.parametrize(("cents", "people"), [(1000, 3), (1001, 3), (5, 4), (99, 7)])
def test_nobody_pays_more_than_a_cent_above_another(cents, people):
    shares = split_evenly(cents, people)
    assert max(shares) - min(shares) <= 1


def test_a_bill_for_nobody_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        split_evenly(1000, 0)
