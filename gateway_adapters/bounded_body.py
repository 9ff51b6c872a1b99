"""Bodies of answers, read up to a bound: nobody outside decides how much memory is taken here."""

import aiohttp


class BodyTooLong(Exception):
    """An answer's body is longer than its bound; the rest of it is not read."""


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    """Return the body of an answer.

    Raises:
        BodyTooLong: it has more than `max_bytes` bytes.
        aiohttp.ClientError, TimeoutError: it does not come to its end.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLong
    return bytes(body)
