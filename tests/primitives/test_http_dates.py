import pytest

from assent.primitives.http_dates import http_date_ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0), ("Tue, 14 Nov 2023 22:13:20 GMT", 1_700_000_000_000),
        ("Tue, 14 Nov 0000 22:13:20 GMT", None), ("Tuesday, 14-Nov-23 22:13:20 GMT", None),
        ("Tue, 14 Nov 2023 22:13:20 +0000", None), ("Tue, 14 Nov 2023 22:13:20 GMT\n", None),
        ("Tue, ١٤ Nov 2023 22:13:20 GMT", None), ("", None),
    ],
)  # fmt: skip
def test_http_date_is_read_in_the_one_form_that_is_sent(text, ms):
    assert http_date_ms(text) == ms
