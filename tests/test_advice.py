"""When a training warns of what: rows of a history made up by hand."""

from unetcu.training.advice import COLLAPSED, WAIT, advice


def rows(losses, val_losses):
    return [
        {"epoch": i + 1, "loss": a, "val_loss": b}
        for i, (a, b) in enumerate(zip(losses, val_losses, strict=True))
    ]


def said_at(history):
    """Epochs after which something about overfitting is said."""
    return [n for n in range(1, len(history) + 1) if advice(history[:n], False)]


FALLING = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.25, 0.2, 0.15, 0.1, 0.08]


def test_overfitting_is_told_once_and_says_what_to_do():
    worse = [0.9, 0.5, 0.7, 0.7, 0.8, 0.8, 0.9, 0.9, 1.0, 1.0, 1.1]
    history = rows(FALLING, worse)
    assert said_at(history) == [2 + WAIT]
    (text,) = advice(history[: 2 + WAIT], False)
    for part in ("since epoch 2", "0.8 to 0.25", "0.5 to 0.9", "--elastic", "--base"):
        assert part in text


def test_a_training_that_goes_well_is_left_alone():
    assert said_at(rows(FALLING, FALLING)) == []
    assert said_at(rows(FALLING, [0.5] * 11)) == []
    assert said_at(rows(FALLING, [0.9, 0.5, *[0.6] * 9])) == []  # 20 % worse is noise


def test_one_good_epoch_among_the_last_is_no_overfitting():
    spikes = [0.9, 0.5, 0.9, 0.9, 0.52, 0.9, 0.9, 0.52, 0.9, 0.9, 0.52]
    assert said_at(rows(FALLING, spikes)) == []


def test_a_loss_that_does_not_fall_has_other_reasons():
    assert said_at(rows([1.0] * 11, [0.9, 0.5, *[0.9] * 9])) == []


def test_without_validation_nothing_is_known():
    assert said_at(rows(FALLING, [""] * 11)) == []


def test_a_collapse_is_told_at_every_epoch_but_the_first():
    history = rows(FALLING, FALLING)
    assert advice(history[:1], True) == []
    assert advice(history[:2], True) == advice(history[:3], True) == [COLLAPSED]
