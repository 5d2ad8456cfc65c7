"""Records, snapshots and credentials are pydantic fields and FastAPI responses as they are, and a
credential shows in none of them.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any

import attrs
import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from samples_of import EXPECTED, payload_of
from strategies import ENUMS, RECORDS, damaged, fuzz, values

from bili_account_async import (
    AccountInfo,
    AccountSnapshot,
    CoinLog,
    Credential,
    RealnameStatus,
    SchemaError,
    SecurityInfo,
    TransportError,
    VipInfo,
    VipStatus,
    structure,
    unstructure,
)

INFO: AccountInfo = EXPECTED["get_account_info"]
VIP: VipInfo = EXPECTED["get_vip_info"]
LOG: CoinLog = EXPECTED["get_coin_log"]
SECURITY: SecurityInfo = EXPECTED["get_security_info"]


class Profile(BaseModel):
    """A user's own model that holds records."""

    info: AccountInfo
    vip: VipInfo | None = None
    logs: list[CoinLog] = []
    status: VipStatus = VipStatus.NONE


@cache
def adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [*RECORDS, *ENUMS], ids=lambda cls: cls.__name__)
def test_whatever_a_record_holds_goes_through_pydantic_and_back(cls: Any) -> None:
    @fuzz
    @given(values(cls))
    def check(record: Any) -> None:
        pydantic = adapter(cls)
        assert pydantic.validate_python(record) is record
        assert pydantic.dump_python(record) == unstructure(record)
        assert pydantic.validate_python(unstructure(record)) == record
        assert pydantic.validate_json(pydantic.dump_json(record)) == record

    check()


@pytest.mark.parametrize("cls", [*RECORDS, *ENUMS], ids=lambda cls: cls.__name__)
def test_pydantic_takes_what_structure_takes_and_nothing_else(cls: Any) -> None:
    @fuzz
    @given(values(cls).flatmap(lambda record: damaged(unstructure(record))))
    def check(value: Any) -> None:
        try:
            made = structure(cls, value)
        except SchemaError:
            with pytest.raises(ValidationError):
                adapter(cls).validate_python(value)
        else:
            assert adapter(cls).validate_python(value) == made

    check()


def test_a_model_holds_records_and_dumps_them_under_the_api_s_names() -> None:
    made = Profile.model_validate(
        {"info": payload_of("get_account_info"), "vip": VIP, "logs": [LOG], "status": 9}
    )
    assert (made.info, made.vip, made.logs, made.status) == (INFO, VIP, [LOG], VipStatus(9))
    assert made.model_dump()["logs"] == [payload_of("get_coin_log")]
    assert made.model_dump(mode="json") == made.model_dump() == json.loads(made.model_dump_json())
    assert Profile.model_validate_json(made.model_dump_json()) == made


@pytest.mark.parametrize(
    ("cls", "value", "place", "says"),
    [
        (VipInfo, [], (), "expected an object, got list"),
        (VipInfo, {}, ("mid",), "expected an int, got nothing"),
        (AccountInfo, unstructure(INFO) | {"sex": 1}, ("sex",), "got int 1"),
        (
            CoinLog,
            {"list": [unstructure(LOG.entries[0]), {"time": "today"}], "count": 2},
            ("list", 1, "time"),
            "expected a time YYYY-MM-DD HH:MM:SS, got str",
        ),
        (
            SecurityInfo,
            unstructure(SECURITY) | {"account_other": {"skipVerify": "no"}},
            ("account_other", "skipVerify"),
            "expected a bool, got str",
        ),
        (VipStatus, True, (), "expected int"),
    ],
)
def test_a_wrong_value_is_reported_where_it_stands(
    cls: Any, value: Any, place: tuple[Any, ...], says: str
) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        TypeAdapter(dict[str, cls]).validate_python({"held": value})
    assert [problem["loc"] for problem in caught.value.errors()] == [("held", *place)]


@pytest.mark.parametrize("cls", RECORDS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_json_schema_has_the_api_s_names_and_asks_for_what_structure_asks_for(
    cls: Any, mode: Any
) -> None:
    schema = adapter(cls).json_schema(mode=mode)
    full = unstructure(next(found for found in found_in(EXPECTED) if type(found) is cls))
    assert list(schema["properties"]) == list(full)
    for name in full:
        without = {key: value for key, value in full.items() if key != name}
        asked = mode == "serialization" or not taken(cls, without)
        assert (name in schema["required"]) == asked
        null = {"type": "null"} in schema["properties"][name].get("anyOf", ())
        may_be_null = taken(cls, full | {name: None})
        if may_be_null and mode == "serialization":
            may_be_null = unstructure(structure(cls, full | {name: None}))[name] is None
        assert null == may_be_null


def found_in(value: Any) -> list[Any]:
    """Return every record inside `value`."""
    if attrs.has(type(value)):
        inside = attrs.asdict(value, recurse=False).values()
        return [value, *(found for held in inside for found in found_in(held))]
    held = value.values() if isinstance(value, dict) else value if type(value) is tuple else ()
    return [found for one in held for found in found_in(one)]


def taken(cls: Any, value: Any) -> bool:
    try:
        structure(cls, value)
    except SchemaError:
        return False
    return True


def test_the_json_schema_of_an_enum_names_what_is_known_and_is_open() -> None:
    schema = TypeAdapter(VipStatus).json_schema()
    assert schema == {
        "type": "integer",
        "examples": [0, 1, 2, 3],
        "description": "VipStatus: 0 NONE, 1 NORMAL, 2 FROZEN, 3 LOCKED;"
        " the server may send others.",
    }
    assert TypeAdapter(AccountInfo).json_schema()["properties"]["sex"]["type"] == "string"


# --- snapshots ------------------------------------------------------------------------------------


def test_a_snapshot_goes_through_pydantic_and_back() -> None:
    made = AccountSnapshot(
        taken_at=datetime(2025, 1, 2, tzinfo=UTC),
        account_info=INFO,
        coin_exp=30,
        coin_log=LOG,
        failures={"vip_info": TransportError("the connection was reset")},
        skipped=frozenset({"security_info"}),
    )
    pydantic = adapter(AccountSnapshot)
    assert pydantic.dump_python(made) == unstructure(made)
    assert pydantic.validate_python(made) is made
    assert pydantic.validate_json(pydantic.dump_json(made)) == made
    written = pydantic.json_schema(mode="serialization")
    assert list(written["properties"]) == list(unstructure(made))
    assert {"$ref": "#/$defs/CoinLog"} in written["properties"]["coin_log"]["anyOf"]


# --- FastAPI --------------------------------------------------------------------------------------

app = FastAPI()


@app.get("/info")
async def info() -> AccountInfo:
    return INFO


@app.get("/log")
async def log() -> CoinLog:
    return LOG


@app.get("/security")
async def security() -> SecurityInfo | None:
    return SECURITY


@app.get("/realname")
async def realname() -> RealnameStatus:
    return RealnameStatus(7)


@app.post("/vip")
async def vip(vip: Annotated[VipInfo, Body()]) -> VipInfo:
    return vip


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(app)


@pytest.mark.parametrize(
    ("path", "record"),
    [("/info", INFO), ("/log", LOG), ("/security", SECURITY), ("/realname", RealnameStatus(7))],
)
def test_a_record_is_a_fastapi_response(client: TestClient, path: str, record: Any) -> None:
    assert client.get(path).json() == unstructure(record)


def test_a_record_is_a_fastapi_request_and_a_wrong_one_is_told_where(client: TestClient) -> None:
    sent = unstructure(VIP)
    assert client.post("/vip", json=sent).json() == sent
    refused = client.post("/vip", json=sent | {"vip_type": "annual"})
    assert refused.status_code == 422
    (problem,) = refused.json()["detail"]
    assert problem["loc"] == ["body", "vip_type"]


def test_the_openapi_description_has_the_records_as_components(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    components = described["components"]["schemas"]
    assert {"AccountInfo", "CoinLog", "CoinLogEntry", "SecurityInfo", "VipInfo"} <= set(components)
    assert components["OtherSecurity"]["required"] == ["skipVerify"]
    entries = components["CoinLog"]["properties"]["list"]
    assert entries["items"] == {"$ref": "#/components/schemas/CoinLogEntry"}
    answer = described["paths"]["/info"]["get"]["responses"]["200"]["content"]["application/json"]
    assert answer["schema"] == {"$ref": "#/components/schemas/AccountInfo"}


# --- credentials ----------------------------------------------------------------------------------

SESSDATA, JCT = "5e55da7a%2C1893456000%2Cs3cre*c2", "c5rfs3cret0123456789abcdef012345"
LOGIN = Credential(sessdata=SESSDATA, dede_user_id=7, bili_jct=JCT)
HEADER = f"SESSDATA={SESSDATA}; DedeUserID=7; bili_jct={JCT}"
BAD_LOGINS: list[Any] = [
    HEADER + " s3cret",
    f"bili_jct={JCT}",
    SESSDATA.replace("%", ""),
    {"SESSDATA": [SESSDATA]},
    {"sessdata": SESSDATA, "access_key": JCT},
    [HEADER],
    HEADER.encode(),
]


class Account(BaseModel):
    """A user's own model that holds credentials."""

    name: str
    login: Credential
    others: list[Credential | None] = []


def shows_no_secret(*shown: object) -> bool:
    text = " ".join(map(str, shown))
    return not re.search("5e55da7a|s3cre|c5rf", text)


@pytest.mark.parametrize(
    "given",
    [
        LOGIN,
        HEADER,
        f"curl https://www.bilibili.com -b '{HEADER}'",
        {"sessdata": SESSDATA, "dede_user_id": 7, "bili_jct": JCT},
        {"SESSDATA": SESSDATA, "DedeUserID": "7", "bili_jct": JCT, "buvid3": "x"},
    ],
    ids=["instance", "header", "cURL", "parts", "cookies"],
)
def test_a_credential_is_a_field_of_a_model_and_masked_in_its_dumps(given: Any) -> None:
    made = Account(name="me", login=given, others=[given, None])
    assert (made.login, made.others) == (LOGIN, [LOGIN, None])
    assert made.model_dump()["login"] is made.login
    assert made.model_dump(mode="json") == {"name": "me", "login": "***", "others": ["***", None]}
    assert shows_no_secret(made, repr(made), made.model_dump(), made.model_dump_json())
    assert shows_no_secret(made.model_copy(), TypeAdapter(Credential).dump_json(made.login))
    if not isinstance(given, Credential):
        sent = json.dumps({"name": "me", "login": given})
        assert Account.model_validate_json(sent).login == LOGIN


@pytest.mark.parametrize("bad", BAD_LOGINS, ids=lambda bad: type(bad).__name__)
def test_no_error_of_a_credential_shows_it(bad: Any) -> None:
    for call in (
        lambda: Account(name="me", login=bad),
        lambda: Account.model_validate({"name": "me", "login": LOGIN, "others": [None, bad]}),
        lambda: TypeAdapter(dict[str, Credential | None]).validate_python({"me": bad}),
    ):
        with pytest.raises(ValidationError) as caught:
            call()
        error = caught.value
        (problem,) = error.errors()
        assert problem["type"] == "credential"
        assert problem["input"] == "***"
        assert shows_no_secret(error, repr(error), error.errors(), error.json())
        assert error.__cause__ is None
        assert error.__context__ is None


def test_the_refusal_of_a_credential_says_what_to_do() -> None:
    with pytest.raises(ValidationError, match=r"login\n.*document\.cookie does not show SESSDATA"):
        Account(name="me", login=f"bili_jct={JCT}")


def test_what_hides_a_credential_from_the_errors_of_the_model_around_it() -> None:
    """A field that is missing is shown with all its neighbours; pydantic leaves no way to help it
    from inside, and has two from outside.
    """

    class Discreet(Account):
        model_config = ConfigDict(hide_input_in_errors=True)

    with pytest.raises(ValidationError) as caught:
        Discreet.model_validate({"login": HEADER})
    assert shows_no_secret(caught.value, repr(caught.value))
    assert shows_no_secret(caught.value.errors(include_input=False))
    assert not shows_no_secret(caught.value.errors())


@app.post("/accounts")
async def add(account: Account) -> Account:
    return account


@app.post("/login")
async def log_in(login: Annotated[Credential, Body(embed=True)]) -> Credential:
    return login


def test_fastapi_takes_a_credential_and_answers_with_a_mask(client: TestClient) -> None:
    added = client.post("/accounts", json={"name": "me", "login": HEADER})
    assert added.json() == {"name": "me", "login": "***", "others": []}
    assert client.post("/login", json={"login": HEADER}).json() == "***"


@pytest.mark.parametrize("bad", BAD_LOGINS[:-1], ids=lambda bad: type(bad).__name__)
@pytest.mark.parametrize("path", ["/accounts", "/login"])
def test_fastapi_s_refusal_of_a_credential_does_not_repeat_it(
    client: TestClient, path: str, bad: Any
) -> None:
    refused = client.post(path, json={"name": "me", "login": bad})
    assert refused.status_code == 422
    (problem,) = refused.json()["detail"]
    assert problem["loc"] == ["body", "login"]
    assert shows_no_secret(refused.text)


def test_openapi_describes_a_credential_as_a_password_to_write_and_a_text_to_read(
    client: TestClient,
) -> None:
    components = client.get("/openapi.json").json()["components"]["schemas"]
    text, parts = components["Account-Input"]["properties"]["login"]["anyOf"]
    assert (text["type"], text["format"], text["writeOnly"]) == ("string", "password", True)
    assert (parts["type"], parts["writeOnly"]) == ("object", True)
    assert components["Account-Output"]["properties"]["login"] == {
        "title": "Login",
        "type": "string",
    }


# --- the package itself ---------------------------------------------------------------------------


def test_the_package_imports_neither_pydantic_nor_any_tool_that_shows_things() -> None:
    code = (
        "import sys, bili_account_async as bili\n"
        "for name in bili.__all__: getattr(bili, name)\n"
        "bili.unstructure(bili.VipStatus(1))\n"
        "repr(bili.Credential(sessdata='x'))\n"
        "print(*{'pydantic', 'pydantic_core', 'rich', 'structlog', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
