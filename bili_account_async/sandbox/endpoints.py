"""The nine endpoints as the API document and its errata have them: their logins and replies.

Replies are built from the names that the document prints, quirks included. No sockets here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from urllib.parse import unquote

import attrs

from .accounts import SandboxAccount, World
from .received import ReceivedRequest

Json = dict[str, object]

MESSAGES = {
    -101: "账号未登录",
    -111: "csrf校验失败",
    -352: "风控校验失败",
    -400: "请求错误",
    -412: "请求被拦截",
    -500: "服务器错误",
    -503: "过载保护,服务暂不可用",
    -504: "服务调用超时",
    -509: "请求过于频繁",
    -702: "请求频率过高",
    -799: "请求过于频繁,请稍后再试",
    40015: "签名包含敏感词",
    40021: "签名不能包含表情图片",
    40022: "签名过长",
}
LONGEST_SIGN = 70
EMOJI = re.compile(r"\[\w+\]|[\U0001f000-\U0001faff\ufe0f]")
"""An emoji image: one of the site's own, such as [doge], or of Unicode's."""


@attrs.frozen
class Endpoint:
    """One endpoint: where it stands, which logins it takes, what it does and what it answers."""

    name: str
    path: str
    reply: Callable[[SandboxAccount], Json]
    method: str = "GET"
    takes_access_key: bool = True
    needs_user_id: bool = False
    """With the cookie, `DedeUserID` has to be there and not 0.

    The server does not compare it with the account.
    """
    action: Callable[[SandboxAccount, World, Mapping[str, str]], int] | None = None
    """The work of a POST before its reply; the code that it returns, if not 0, is the answer.

    For a POST the cookie alone is not enough: its form needs the csrf token too.
    """


def holders(
    request: ReceivedRequest, world: World
) -> tuple[SandboxAccount | None, SandboxAccount | None]:
    """Return the accounts whose browser login and app login came with the request.

    They may be alive or not; None for a login that did not come, or that nobody has.
    """
    sessdata = request.cookies.get("SESSDATA", "")
    decoded = "" if "," in sessdata else unquote(sessdata)  # a raw comma logs nobody in
    fields = request.form if request.method == "POST" else request.query
    access_key = (fields or {}).get("access_key", "")
    return world.known.get(("SESSDATA", decoded)), world.known.get(("access_key", access_key))


def answer(endpoint: Endpoint, request: ReceivedRequest, world: World) -> Json:
    """Return the endpoint's answer to a request with the right method.

    The document's checks come first, then the endpoint's own reply.
    """
    if request.form is None:
        return refusal(-400)
    by_cookie, by_key = holders(request, world)
    if endpoint.needs_user_id and not re.fullmatch(
        r"0*[1-9][0-9]*", request.cookies.get("DedeUserID", "")
    ):
        by_cookie = None
    if not endpoint.takes_access_key:
        by_key = None
    account = by_key or by_cookie
    if account is None or not account.logged_in:
        return refusal(-101)
    if endpoint.action:
        if by_key is None and request.form.get("csrf") != account.bili_jct:
            return refusal(-111)
        if code := endpoint.action(account, world, request.form):
            return refusal(code)
    return endpoint.reply(account)


def refusal(code: int, message: str | None = None) -> Json:
    return {
        "code": code,
        "message": MESSAGES.get(code, str(code)) if message is None else message,
        "ttl": 1,
    }


def _success(data: Json) -> Json:
    return {"code": 0, "message": "0", "ttl": 1, "data": data}


def _fields(account: SandboxAccount, names: str) -> Json:
    return {name: getattr(account, name) for name in names.split()}


def _account_info(account: SandboxAccount) -> Json:
    return _success(_fields(account, "mid uname userid sign birthday sex nick_free rank"))


def _daily_rewards(account: SandboxAccount) -> Json:
    bound = {
        "email": account.bind_mail,
        "tel": account.bind_tel,
        "identify_card": account.realname_certified,
    }
    return _success(
        _fields(account, "login watch share safe_question") | {"coins": account.coin_exp} | bound
    )


def _coin_exp(account: SandboxAccount) -> Json:
    return {"code": 0, "message": "0", "number": account.coin_exp}  # no data, no ttl: documented


def _vip_info(account: SandboxAccount) -> Json:
    return _success(
        _fields(account, "mid vip_type vip_status vip_due_date vip_pay_type theme_type")
    )


def _security_info(account: SandboxAccount) -> Json:
    masked = _fields(account, "hide_tel hide_mail")
    bound = _fields(account, "bind_tel bind_mail tel_verify mail_verify")
    certified = _fields(account, "unneeded_check realname_certified")
    sns = _fields(account, "weibo_bind qq_bind wechat_bind")
    data = {
        "account_info": masked | bound | certified,
        "account_safe": {"Score": account.score} | _fields(account, "score_new pwd_level security"),
        "account_sns": {name: 1 if bound else 0 for name, bound in sns.items()},
        "account_other": {"skipVerify": account.skip_verify},
    }
    return {"code": 0, "data": data}  # no message and no ttl, as documented


def _realname_status(account: SandboxAccount) -> Json:
    return _success({"status": 1 if account.realname_certified else 0})


def _realname_application(account: SandboxAccount) -> Json:
    status = {"status": 1 if account.realname_certified else 3}
    return _success(status | _fields(account, "remark realname card card_type"))


def _coin_log(account: SandboxAccount) -> Json:
    entries = [
        {
            "time": f"{change.time:%Y-%m-%d %H:%M:%S}",
            "delta": _number(change.delta),
            "reason": change.reason,
        }
        for change in account.last_week()
    ]
    return _success({"list": entries or None, "count": len(entries)})


def _number(delta: Decimal) -> int | float:
    return int(delta) if delta == delta.to_integral_value() else float(delta)


def _submit_sign(account: SandboxAccount, world: World, form: Mapping[str, str]) -> int:
    sign = form.get("user_sign", "")  # none or empty: clear it
    if any(word in sign for word in world.sensitive_words):
        return 40015
    if EMOJI.search(sign):
        return 40021
    if len(sign) > LONGEST_SIGN:
        return 40022
    account.submit_sign(sign)
    return 0


def _done(account: SandboxAccount) -> Json:
    return {"code": 0, "message": "0", "ttl": 1}


ENDPOINTS = [
    Endpoint("get_account_info", "/x/member/web/account", _account_info),
    Endpoint("get_daily_rewards", "/x/member/web/exp/reward", _daily_rewards),
    Endpoint(
        "get_coin_exp",
        "/plus/account/exp.php",
        _coin_exp,
        takes_access_key=False,
        needs_user_id=True,
    ),
    Endpoint("get_vip_info", "/x/vip/web/user/info", _vip_info, takes_access_key=False),
    Endpoint("get_security_info", "/web/site/user/info", _security_info, needs_user_id=True),
    Endpoint("get_realname_status", "/x/member/realname/status", _realname_status),
    Endpoint("get_realname_application", "/x/member/realname/apply/status", _realname_application),
    Endpoint("get_coin_log", "/x/member/web/coin/log", _coin_log),
    Endpoint("update_sign", "/x/member/web/sign/update", _done, method="POST", action=_submit_sign),
]
BY_PATH = {endpoint.path: endpoint for endpoint in ENDPOINTS}
NAMES = [endpoint.name for endpoint in ENDPOINTS]
