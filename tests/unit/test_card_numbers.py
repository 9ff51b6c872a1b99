"""Card numbers are told from the numbers that shops write beside their orders."""

import pytest

from server.rpc.card_numbers import has_card_number


@pytest.mark.parametrize(
    "text",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "card 4111111111111111, exp 12/30",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "3056.930902.5904",
        "6304 0000 0000 0000 000",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "6304000000000000",
        "4222222222222",
        "x4111111111111111y",
    ],
)
def test_a_card_number_is_found(text: str) -> None:
    """Numbers of each large scheme are found, with or without spaces or dashes, within a text."""
    assert has_card_number(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4111111111111112",  # the check digit is wrong
        "1700000000000",  # a time in milliseconds
        "9000000000000000",  # begins as no scheme's numbers do
        "41111111111111110000",  # twenty digits
        "+91 90000 90000",
        "2026-11-24T10:00:00.000000",
        "123e4567-e89b-12d3-a456-426614174000",
        "411-1111111-111111",  # an order's number, in groups of its own
        "4111-11-11-11-11-1111",
        "490154203237518",  # a phone's IMEI, whose check digit is right
    ],
)
def test_another_number_is_none(text: str) -> None:
    """Times, phone numbers and ids are not taken for card numbers."""
    assert not has_card_number(text)
