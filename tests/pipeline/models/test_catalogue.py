from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pipeline.models.adapters import OPENABLE
from pipeline.models.catalogue import CARDS, ModelCard, by_id
from pipeline.models.faces import RESTORERS
from pipeline.models.upscalers import ARCHITECTURES


def test_ids_and_digests_are_unique() -> None:
    assert len({card.id for card in CARDS}) == len(CARDS)
    assert len({card.sha256 for card in CARDS}) == len(CARDS)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.id)
def test_a_card_is_complete(card: ModelCard) -> None:
    assert re.fullmatch("[0-9a-f]{64}", card.sha256)
    assert card.bytes
    assert card.licence
    # A model that nobody publishes at an address that lasts comes from a mirror.
    assert (card.embedded or card.id == "mobilefacenet") == (card.url is None)
    assert card.url is None or card.url.startswith("https://")


def test_every_upscaler_has_an_adapter() -> None:
    upscalers = [card for card in CARDS if card.task == "upscale"]
    assert upscalers
    assert all(card.architecture in ARCHITECTURES and card.scale in (2, 4) for card in upscalers)
    assert {card.architecture for card in CARDS} >= set(RESTORERS)


def test_only_codeformer_asks_for_consent_and_names_its_own_licence() -> None:
    asking = [card for card in CARDS if card.consent is not None]
    assert [card.id for card in asking] == ["codeformer"]
    assert asking[0].consent == asking[0].licence == "LicenseRef-S-Lab-1.0"


def test_networks_of_codes_are_not_fit_for_sixteen_bits() -> None:
    table = by_id()
    assert not any(table[name].half for name in ("restoreformer", "codeformer"))


def test_later_cards_win_and_the_table_is_frozen() -> None:
    mine = replace(CARDS[0], licence="MIT")
    table = by_id((*CARDS, mine))
    assert table[mine.id] is mine
    with pytest.raises(TypeError):
        table["new"] = mine  # type: ignore[index]


def test_every_parser_and_embedder_of_the_catalogue_can_be_opened() -> None:
    for task in ("parse-faces", "identify-faces"):
        cards = [card for card in CARDS if card.task == task]
        assert {card.architecture for card in cards} == set(OPENABLE[task])
