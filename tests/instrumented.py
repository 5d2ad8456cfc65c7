"""A host program that instruments aiohttp; run by `test_instrumentation.py` in a process of its
own, because the tools patch aiohttp for the whole process.

`python instrumented.py TOOL` switches a tool on between the openings of four managers, makes calls
through each and one request of the host's own, and prints as JSON what their servers received and
what the tool captured. The secrets are made here at random: a tool that shows source lines or
`sys.argv` shows none of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import AsyncExitStack, nullcontext
from secrets import token_hex
from typing import Any, ClassVar

import aiohttp
from faults import RESET, Received, Script, reply, serve
from test_faults import GOOD, asked

from bili_account_async import (
    BiliError,
    Credential,
    Limits,
    Retry,
    SessionManager,
    fetch_snapshot,
    get_account_info,
    update_sign,
)

MANAGERS = (
    "own, opened before",
    "lent, opened before",
    "own, opened afterwards",
    "lent, opened afterwards",
)
CALLS = 19
"""Requests that `calls` makes."""
SECRETS = [token_hex() for _ in range(3)]
SESSDATA, JCT, KEY = SECRETS


class Tool:
    """Sentry at its defaults: breadcrumbs, headers that carry the trace on, and events."""

    options: ClassVar[dict[str, Any]] = {}

    def on(self) -> None:
        import sentry_sdk
        from sentry_sdk.transport import Transport

        kept = self.kept = []

        class Keep(Transport):
            def capture_envelope(self, envelope: Any) -> None:
                kept.append([item.payload.json for item in envelope.items])

        sentry_sdk.init("http://key@127.0.0.1:9/1", transport=Keep, **self.options)

    def operation(self) -> Any:
        import sentry_sdk

        return sentry_sdk.start_transaction(name="the host's operation")

    def report(self, error: Exception) -> None:
        import sentry_sdk

        sentry_sdk.capture_exception(error)

    def captured(self) -> dict[str, str]:
        """All that the tool has: the failure that was reported to it apart, for its frames show
        source lines and locals.
        """
        items = [item for items in self.kept for item in items]
        failure = [item.pop("exception") for item in items if "exception" in item]
        return {"traffic": json.dumps(items), "failure": json.dumps(failure)}


class SentryWithTraces(Tool):
    options: ClassVar = {"traces_sample_rate": 1.0}


class OpenTelemetry(Tool):
    """OpenTelemetry's instrumentation of aiohttp: spans, metrics and headers."""

    def on(self) -> None:
        from opentelemetry import metrics, trace
        from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.spans, self.metrics = InMemorySpanExporter(), InMemoryMetricReader()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.spans))
        trace.set_tracer_provider(provider)
        metrics.set_meter_provider(MeterProvider([self.metrics]))
        AioHttpClientInstrumentor().instrument()

    def operation(self) -> Any:
        from opentelemetry import baggage, context, trace

        context.attach(baggage.set_baggage("host", "baggage"))
        return trace.get_tracer("host").start_as_current_span("the host's operation")

    def report(self, error: Exception) -> None:
        from opentelemetry import trace

        trace.get_current_span().record_exception(error)

    def captured(self) -> dict[str, str]:
        spans = [json.loads(span.to_json()) for span in self.spans.get_finished_spans()]
        failure = [span.pop("events") for span in spans if span["kind"] == "SpanKind.INTERNAL"]
        traffic = json.dumps(spans) + self.metrics.get_metrics_data().to_json()
        return {"traffic": traffic, "failure": json.dumps(failure)}


class Logfire(OpenTelemetry):
    """Logfire, which switches OpenTelemetry's instrumentation on with hooks of its own."""

    options: ClassVar = {}

    def on(self) -> None:
        import logfire
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        self.spans, self.metrics = InMemorySpanExporter(), InMemoryMetricReader()
        logfire.configure(
            send_to_logfire=False,
            console=False,
            additional_span_processors=[SimpleSpanProcessor(self.spans)],
            metrics=logfire.MetricsOptions(additional_readers=[self.metrics]),
        )
        logfire.instrument_aiohttp_client(**self.options)


class LogfireWithEverything(Logfire):
    options: ClassVar = {"capture_all": True}


class Injected(Tool):
    """No known tool, but all that one can bring in by way of `ClientSession.__init__`."""

    def on(self) -> None:
        self.seen: list[str] = []
        init = aiohttp.ClientSession.__init__
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(self.started)

        def injecting(client: aiohttp.ClientSession, *args: Any, **options: Any) -> None:
            options["trace_configs"] = [*(options.get("trace_configs") or ()), trace]
            options["middlewares"] = (*(options.get("middlewares") or ()), self.pass_on)
            init(client, *args, **options)

        aiohttp.ClientSession.__init__ = injecting  # type: ignore[method-assign]

    async def started(self, client: object, context: object, request: Any) -> None:
        self.seen.append(f"{request.url} {request.headers}")
        request.headers["traceparent"] = "started"

    async def pass_on(self, request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
        self.seen.append(f"{request.url} {request.headers}")
        request.headers["baggage"] = "passed on"
        return await handler(request)

    def operation(self) -> Any:
        return nullcontext()

    def report(self, error: Exception) -> None:
        self.failure = repr(error)

    def captured(self) -> dict[str, str]:
        return {"traffic": json.dumps(self.seen), "failure": self.failure}


TOOLS = {
    "sentry": Tool,
    "sentry-with-traces": SentryWithTraces,
    "opentelemetry": OpenTelemetry,
    "logfire": Logfire,
    "logfire-with-everything": LogfireWithEverything,
    "injected": Injected,
}


def bilibili(request: Received) -> Script:
    """The API: whoever asks for the sign `reset` is cut off."""
    return [RESET] if request.form.get("user_sign") == "reset" else [reply(GOOD[asked(request)])]


async def calls(manager: SessionManager) -> Exception:
    """Calls of every kind; gives the error of the last."""
    app = manager.session(Credential(access_key=KEY))
    cookie = manager.session(Credential(sessdata=SESSDATA, dede_user_id=7, bili_jct=JCT))
    for me in (app, cookie):
        await get_account_info(me)
        await update_sign(me, "sign")
        await fetch_snapshot(me)
    try:
        await update_sign(app, "reset")
    except BiliError as error:
        return error
    raise AssertionError


async def main(tool: Tool) -> None:
    async with AsyncExitStack() as stack:
        ours = {name: await stack.enter_async_context(serve(bilibili)) for name in MANAGERS}
        theirs = await stack.enter_async_context(serve(lambda _: [reply(b"{}")]))
        managers = []
        for name, at in ours.items():
            if name == "own, opened afterwards":
                tool.on()
            lent = None
            if name.startswith("lent"):
                lent = await stack.enter_async_context(aiohttp.ClientSession())
            manager = SessionManager(
                hosts=at.hosts, limits=Limits.none(), retry=Retry.none(), client_session=lent
            )
            managers.append(await stack.enter_async_context(manager))
        with tool.operation():
            errors = [await calls(manager) for manager in managers]
            client = await stack.enter_async_context(aiohttp.ClientSession())
            async with client.get(f"http://127.0.0.1:{theirs.port}/") as response:
                await response.read()
            for error in errors:
                tool.report(error)
    received = {
        name: {"port": at.port, "headers": [request.headers for request in at.requests]}
        for name, at in (ours | {"theirs": theirs}).items()
    }
    json.dump({"received": received, "secrets": SECRETS} | tool.captured(), sys.stdout)


if __name__ == "__main__":
    asyncio.run(main(TOOLS[sys.argv[1]]()))
