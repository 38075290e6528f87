"""Which symbols Binance's archive has, from the listing of its objects; symbols that trade no more included.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode
from xml.etree import ElementTree

from lab.errors import SourceError
from lab.sources.binance.datasets import SYMBOL, Dataset, files_of, folder
from lab.sources.web import Connections, Patience, get

PAGE = 1000  # keys, at most
BYTES_PER_PAGE = 4 << 20
LISTING = re.compile(rb"\s*(<\?xml[^>]*>)?\s*<ListBucketResult[\s>]")


@dataclass(frozen=True)
class Page:
    """A page of a listing: keys of objects, names of folders, and what to ask for the next page by, if there is one."""

    keys: list[str]
    folders: list[str]
    following: dict[str, str]


def listed_symbols(
    pools: Connections, listing_url: str, market: str, dataset: Dataset, patience: Patience
) -> list[str]:
    """All symbols of which the archive ever had a file of this dataset, sorted; stray files are passed over."""
    symbols = set()
    for cadence in dataset.cadences:
        place = folder(market, cadence, dataset)
        of_folder = re.compile(rf"{re.escape(place)}({SYMBOL.pattern})/")
        of_file = files_of(market, cadence, dataset)
        for page in pages(pools, listing_url, place, patience):
            named = [*map(of_folder.fullmatch, page.folders), *map(of_file.fullmatch, page.keys)]
            symbols |= {match[1] for match in named if match}
    return sorted(symbols)


def pages(pools: Connections, listing_url: str, prefix: str, patience: Patience) -> Iterator[Page]:
    """Each page of what lies directly in a folder.

    A server that knows no continuation tokens is asked by the last name it gave. A page that is no listing, or
    leads nowhere new, is a SourceError.
    """
    following, seen = {"list-type": "2"}, set()
    while following:
        query = {**following, "prefix": prefix, "delimiter": "/", "max-keys": str(PAGE)}
        url = f"{listing_url.rstrip('/')}?{urlencode(query)}"
        text = get(pools, url, at_most=BYTES_PER_PAGE, patience=patience)
        if text is None:
            raise SourceError(f"there is no listing at {url}", fix="check --listing-url")
        page = read_page(text, url)
        yield page
        following = page.following
        if (place := tuple(following.items())) in seen:
            raise SourceError(f"the listing at {url} goes round in circles", fix="check --listing-url")
        seen.add(place)


def read_page(text: bytes, url: str) -> Page:
    """The content of one page; anything but a listing is a SourceError."""
    try:
        # Nothing stands before the root, so nothing defines entities that could expand without end.
        root = ElementTree.fromstring(text) if LISTING.match(text) else None
    except ElementTree.ParseError:
        root = None
    if root is None:
        raise SourceError(f"{url} is no listing: it begins with {text[:40]!r}", fix="check --listing-url")
    keys = [key.text or "" for key in root.iterfind("{*}Contents/{*}Key")]
    folders = [name.text or "" for name in root.iterfind("{*}CommonPrefixes/{*}Prefix")]
    if root.findtext("{*}IsTruncated") != "true":
        return Page(keys, folders, {})
    if token := root.findtext("{*}NextContinuationToken"):
        return Page(keys, folders, {"list-type": "2", "continuation-token": token})
    marker = root.findtext("{*}NextMarker") or max([*keys, *folders], default="")
    return Page(keys, folders, {"marker": marker})
