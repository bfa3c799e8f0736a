"""What only shows when threads use a client for the first time at once."""

from __future__ import annotations

from typing import Any, NoReturn

from botocore.exceptions import ClientError

from shared.bucket.bucket import Bucket


class FreshClient:
    """A client whose classes of errors are others each time it is asked for them.

    That is how threads see a client of boto3 that has not raised an error yet.
    """

    @property
    def exceptions(self) -> type[Any]:
        return type("exceptions", (), {"NoSuchKey": type("NoSuchKey", (ClientError,), {})})

    def get_object(self, **_: str) -> NoReturn:
        missing: Any = {"Error": {"Code": "NoSuchKey"}}
        raise self.exceptions.NoSuchKey(missing, "GetObject")


def test_a_missing_object_is_none_whichever_class_says_so():
    client: Any = FreshClient()
    assert Bucket(client, "bucket").get("address/latest.json") is None
    with Bucket(client, "bucket").open("address/latest.json") as found:
        assert found is None
