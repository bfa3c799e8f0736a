"""The rows of the small tables of Totesys: invented, some with texts that break naive code."""

from __future__ import annotations

from datetime import datetime, timedelta
from string import ascii_lowercase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

type Row = dict[str, str | int | bool | None]

# When the real database was filled.
SEEDED_AT = datetime(2022, 11, 3, 14, 20, 49, 962_000)

_ADDRESSES = 30
_DESIGNS = 470
_STAFF = 20

_ADDRESS_COLUMNS = (
    "address_line_1", "address_line_2", "district", "city", "postal_code", "country", "phone",
)  # fmt: skip
_ODD_ADDRESSES = (
    ("6 Herring Way", None, "Avon", "New Patience", "01067", "Turkey", "01803 637401"),
    ('Unit 5, "The Mill"', "c/o Smith, Jones", None, "O'Fallon", "00501", "Korea, Republic of",
     "+82 2 555 0101"),
    ("12 Rue de l'Abbé\nBâtiment C", "", "Île-de-France", "L'Haÿ-les-Roses", "94240", "France",
     "01 99 00 12 34"),
    ("千代田区1-1", None, None, "東京", "100-0001", "Japan", "03-5555-0100"),
    (r"C:\Dock\9", "door\t2", "Niederösterreich", "Gänserndorf", "02230", "Austria", "02282 5550"),
    ("1 Tote Street 🛍️", None, "Kent", " Deal ", "CT14 7AA",
     "South Georgia and the South Sandwich Islands (UK)", "(01304) 555-010"),
)  # fmt: skip
_STREETS = ("Alpha Road", "Beech Lane", "Canal Street", "Drury Park", "Elm Grove", "Foundry Row")
_CITIES = ("Ashby", "Brixworth", "Colne", "Dunstead", "Eastwick", "Farnley", "Goole", "Hexton")
_COUNTRIES = ("Bolivia", "Chile", "Côte d'Ivoire", "Denmark", "Iran, Islamic Republic of", "Malta")
_COMPANIES = (
    "Archer and Sons", "Bell, Booth and Byrne", "Ćwik & Müller GmbH", 'The "Tote" Bag Company',
    "O'Dell Ltd", "Fell, Grant - Hale", "Ibsen Group", "Jansen LLC", "Kaur Inc", "Löwe PLC",
    "Marsh and Daughters", "Nash, Ochoa and Pike", "Quill Partners", "Rossi S.p.A.",
    "佐藤 株式会社", "Trent Inc", "Usher, Vane and West", "Xu Trading", "Young LLC", "Zeller AG",
)  # fmt: skip
_DEPARTMENTS = (
    ("Sales", "Manchester", "Alice Archer"),
    ("Purchasing", "Manchester", "Bao Nguyen"),
    ("Production", "Leeds", "Chloé Dubois"),
    ("Dispatch", "Leds", "Dan O'Neill"),  # the typo is the real one
    ("Finance", "Manchester", "Eva Lund"),
    ("Facilities", "Manchester", None),
    ("Communications", None, "Gil Pérez"),
    ("HR", "Leeds", "Hana Sato"),
)
_PAYMENT_TYPES = ("SALES_RECEIPT", "SALES_REFUND", "PURCHASE_PAYMENT", "PURCHASE_REFUND")
_FIRST_NAMES = ("Ada", "Ben", "Cleo", "Dev", "Esme", "Finn", "Gita", "Hugo", "Iris", "Jack")
_LAST_NAMES = ("Abbott", "Bright", "Carver", "Dale", "Ellis", "Frost", "Gould", "Hobbs")
_MATERIALS = ("Bronze", "Concrete", "Cotton", "Fresh", "Granite", "Plastic", "Steel", "Wooden")
_LOCATIONS = ("/usr", "/lib", "/private/var", "/opt/share", "/home/user/dir", "/etc/mail")


def master_rows(rng: Random) -> dict[str, list[Row]]:
    """Return the rows of the seven small tables, in an order that satisfies the foreign keys.

    Foreign keys refer to the ids that an empty database gives to the rows: 1, 2, 3 ...
    """
    rows: dict[str, list[Row]] = {
        "address": _addresses(rng),
        "counterparty": [_counterparty(rng, name) for name in _COMPANIES],
        "currency": [{"currency_code": code} for code in ("GBP", "USD", "EUR")],
        "department": _departments(),
        "payment_type": [{"payment_type_name": name} for name in _PAYMENT_TYPES],
        "staff": [_employee(rng, number) for number in range(_STAFF)],
    }
    stamped = {table: [row | stamps(SEEDED_AT) for row in data] for table, data in rows.items()}
    return stamped | {"design": [_design(rng, number) for number in range(_DESIGNS)]}


def stamps(moment: datetime) -> Row:
    """Return the two timestamps, in milliseconds, of a row that was never changed."""
    text = moment.isoformat(timespec="milliseconds")
    return {"created_at": text, "last_updated": text}


def _addresses(rng: Random) -> list[Row]:
    plain = [_plain_address(rng) for _ in range(_ADDRESSES - len(_ODD_ADDRESSES))]
    return [dict(zip(_ADDRESS_COLUMNS, row, strict=True)) for row in (*_ODD_ADDRESSES, *plain)]


def _plain_address(rng: Random) -> tuple[str | None, ...]:
    return (
        f"{rng.randint(1, 9999)} {rng.choice(_STREETS)}",
        rng.choice((None, None, f"Suite {rng.randint(100, 999)}")),
        rng.choice((None, "Avon", "Bedfordshire", "Cheshire")),
        rng.choice(_CITIES),
        f"{rng.randint(1, 99_999):05}",
        rng.choice(_COUNTRIES),
        f"01{rng.randint(0, 999):03} {rng.randint(0, 999_999):06}",
    )


def _counterparty(rng: Random, name: str) -> Row:
    return {
        "counterparty_legal_name": name,
        "legal_address_id": rng.randint(1, _ADDRESSES),
        "commercial_contact": rng.choice((None, _full_name(rng), _full_name(rng))),
        "delivery_contact": rng.choice((None, _full_name(rng), f"Mrs. {_full_name(rng)}")),
    }


def _full_name(rng: Random) -> str:
    return f"{rng.choice(_FIRST_NAMES)} {rng.choice(_LAST_NAMES)}"


def _departments() -> list[Row]:
    columns = ("department_name", "location", "manager")
    return [dict(zip(columns, row, strict=True)) for row in _DEPARTMENTS]


def _employee(rng: Random, number: int) -> Row:
    first = _FIRST_NAMES[number % len(_FIRST_NAMES)]
    last = _LAST_NAMES[number % len(_LAST_NAMES)]
    return {
        "first_name": first,
        "last_name": last,
        "department_id": rng.randint(1, len(_DEPARTMENTS)),
        "email_address": f"{first}.{last}@terrifictotes.com".lower(),
    }


def _design(rng: Random, number: int) -> Row:
    made = SEEDED_AT + timedelta(minutes=20 * number)
    name = rng.choice(_MATERIALS)
    suffix = "".join(rng.choices(ascii_lowercase, k=4))
    return {
        "design_name": name,
        "file_location": rng.choice(_LOCATIONS),
        "file_name": f"{name.lower()}-{made:%Y%m%d}-{suffix}.json",
        **stamps(made),
    }
