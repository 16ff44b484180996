"""The card beside a model is found, the most specific first."""

from qnep.report.model_card import card_text


def test_cards_in_their_order(tmp_path):
    model = tmp_path / "nep.txt"
    assert card_text(model) is None
    for name in ("README.md", "model_card.md", "nep_card.md", "nep.md"):
        (tmp_path / name).write_text(name)
        assert card_text(model) == name
