from __future__ import annotations

from datetime import date
from itertools import pairwise

from hybridseg.tracking.change import Change
from hybridseg.tracking.page import cards_of, with_room


def change(gain_m2: float, loss_m2: float, sd_m2: float) -> Change:
    return Change("water", date(2009, 8, 18), date(2020, 8, 31), 4e6, 4e6 + gain_m2 - loss_m2, gain_m2 - loss_m2, sd_m2,
                  gain_m2, loss_m2, sd_m2, 1_126, 6, 0)  # fmt: skip


def test_large_areas_are_square_kilometres_with_their_errors():
    net, gained, lost, counts = cards_of(change(2_146_665, 5_906, 115_618))
    assert net[1:] == ("+2.141 km²", "standard error 0.116 km²")
    assert gained[1:] == ("2.147 km²", "standard error 0.116 km²")
    assert lost[1:] == ("0.006 km²", "less than its standard error 0.116 km²")
    assert counts[1] == "1,126, 6"


def test_small_areas_are_square_metres():
    net, *_ = cards_of(change(800.2, 1_700.4, 50.5))
    assert net[1:] == ("-900 m²", "standard error 50 m²")


def test_labels_of_dates_do_not_run_into_each_other():
    shown = with_room([34.0, 82, 150, 210, 250, 300, 320, 560, 606])
    assert (shown[0], shown[-1]) == (0, 8)
    at = [[34.0, 82, 150, 210, 250, 300, 320, 560, 606][k] for k in shown]
    assert min(b - a for a, b in pairwise(at)) >= 56
    assert with_room([34.0]) == [0]
