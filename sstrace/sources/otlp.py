"""Log records to an OpenTelemetry collector, through OpenTelemetry's own SDK (the optional extra ``sstrace[otlp]``).

The SDK takes long over a record and longer over a request, so it works in a thread of its own; the thread takes whole
chunks of NDJSON by OpenTelemetry's names from a queue whose length (``queued``) is for the owner to limit. A batch
that the collector refuses, or does not answer to, is tried again by the SDK's exporter for a while, then counted as
lost.
"""

import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from sstrace.errors import FeatureError
from sstrace.sources.stream import count_lines

__all__ = ["ENDPOINT", "Otlp"]

ENDPOINT = "http://127.0.0.1:4318"
"""Where a collector on this machine listens for OTLP over HTTP."""

_BATCH = 1000
_RESOURCE = frozenset({"service.name", "host.name", "os.type", "os.version"})


class Otlp:
    """A collector. Raises FeatureError where the SDK is not installed."""

    def __init__(self, endpoint: str | None, version: str) -> None:
        """``endpoint``: as OTEL_EXPORTER_OTLP_ENDPOINT, without /v1/logs; None: that variable, or the local one."""
        try:
            self._sdk = _Sdk(endpoint, version)
        except ImportError as error:
            raise FeatureError(
                f"--sink otlp needs OpenTelemetry's SDK ({error.name} is missing): pip install 'sstrace[otlp]'"
            ) from None
        self._queue: deque[bytes] = deque()
        self._change = threading.Condition()
        self._ending = False
        self._busy = 0
        self.queued = 0
        """Bytes that wait, or are on their way."""
        self.sent = 0
        """Bytes taken by the collector, as NDJSON."""
        self.lost = 0
        """Records that the collector did not take."""
        self.stuck: str | None = None
        """What the last failure was; None after a success."""
        self._thread = threading.Thread(target=self._work, name="otlp", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise FeatureError(f"cannot send by otlp: {error}") from None

    def gone(self) -> bool:
        """Never: a collector comes back."""
        return False

    def put(self, data: bytes | bytearray) -> None:
        """Queue lines."""
        with self._change:
            self._queue.append(bytes(data))
            self.queued += len(data)
            self._change.notify_all()

    def pump(self) -> None:
        """The thread does."""

    def wait(self, seconds: float) -> None:
        """Until the thread has got on, at most so long."""
        with self._change:
            self._change.wait(seconds)

    def drain(self, seconds: float) -> int:
        """Wait until everything is sent, at most so long; how many lines are left."""
        with self._change:
            self._change.wait_for(lambda: not self.queued, seconds)
            return sum(map(count_lines, self._queue)) + self._busy

    def close(self) -> None:
        """Let go; what waits is lost."""
        with self._change:
            self._ending = True
            self._queue.clear()
            self._change.notify_all()
        self._thread.join(1)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._queue or self._ending)
                if self._ending:
                    return
                chunk = self._queue.popleft()
                lines = chunk.splitlines()
                self._busy = len(lines)
            for start in range(0, len(lines), _BATCH):
                batch = lines[start : start + _BATCH]
                failure = self._sdk.send(batch)
                with self._change:
                    self._busy -= len(batch)
                    self.stuck = failure
                    if failure is not None:
                        self.lost += len(batch)
                    if self._ending:
                        return
            with self._change:
                self.queued -= len(chunk)
                self.sent += len(chunk)
                self._change.notify_all()


class _Sdk:
    """The SDK's part. Its logs API is young: what it calls by a leading underscore is all that there is."""

    def __init__(self, endpoint: str | None, version: str) -> None:
        import logging

        from opentelemetry._logs import SeverityNumber
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
        from opentelemetry.sdk.resources import Resource

        # What the SDK complains of, the owner says in its own sentence.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        logging.getLogger("opentelemetry").propagate = False
        self._severity = {"INFO": SeverityNumber.INFO, "WARN": SeverityNumber.WARN}
        self._success = LogRecordExportResult.SUCCESS
        self._resource = Resource
        self._provider_of = LoggerProvider
        self._processor_of = BatchLogRecordProcessor
        self._version = version
        url = f"{endpoint.rstrip('/')}/v1/logs" if endpoint is not None else None
        self._exporter = OTLPLogExporter(endpoint=url) if url is not None else OTLPLogExporter()
        self._failure: str | None = None
        self._logger: Any = None
        self._provider: Any = None

    # What the SDK asks of an exporter; this one stands before the real one, to learn how an export went.

    def export(self, batch: Sequence[Any]) -> Any:
        result = self._exporter.export(batch)
        self._failure = None if result is self._success else "the collector did not take it"
        return result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return bool(self._exporter.force_flush(timeout_millis))

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def send(self, lines: Sequence[bytes]) -> str | None:
        """Export one batch; what went wrong, None for nothing."""
        self._failure = None
        try:
            for line in lines:
                self._emit(msgspec.json.decode(line))
            if not self._provider.force_flush():
                self._failure = self._failure or "the collector did not answer in time"
        except Exception as error:  # a library's: whatever it is, tracing goes on
            self._failure = f"{type(error).__name__}: {error}"
        return self._failure

    def _emit(self, record: dict[str, Any]) -> None:
        from datetime import datetime

        if self._logger is None:
            resource = {key: record[key] for key in _RESOURCE if key in record}
            self._provider = self._provider_of(resource=self._resource.create(resource), shutdown_on_exit=False)
            # Nothing is sent but by force_flush: no batch of ours is as large as the processor's, so its own thread
            # sleeps; and the queue holds more than that, so nothing is dropped.
            processor = self._processor_of(
                self,
                max_queue_size=4 * _BATCH,
                max_export_batch_size=2 * _BATCH,
                schedule_delay_millis=3_600_000,
            )
            self._provider.add_log_record_processor(processor)
            self._logger = self._provider.get_logger("sstrace", self._version)
        when: str = record.pop("timestamp")
        severity = record.pop("severity_text")
        name = record.pop("event_name")
        whole, _, fraction = when[:-1].partition(".")
        seconds = int(datetime.fromisoformat(f"{whole}+00:00").timestamp())
        owners = record.get("sstrace.owners")
        if owners is not None:  # attributes are plain values or lists of them
            record["sstrace.owners"] = [f"{one['comm']}/{one['pid']}/{one.get('fd', '')}" for one in owners]
        self._logger.emit(
            timestamp=seconds * 1_000_000_000 + int(fraction),
            severity_text=severity,
            severity_number=self._severity[severity],
            event_name=name,
            body=_body(name, record),
            attributes={key: value for key, value in record.items() if key not in _RESOURCE},
        )


def _body(name: str, record: dict[str, Any]) -> str:
    """A record in a few words."""
    state, before = record.get("network.connection.state"), record.get("sstrace.state.previous")
    if state is None:
        return name
    text = f"{_endpoint(record, 'local')} {f'{before} -> ' if before else ''}{state}"
    if "network.peer.address" in record:
        text += f" {_endpoint(record, 'peer')}"
    return text + (f" [{record['sstrace.cause']}]" if "sstrace.cause" in record else "")


def _endpoint(record: dict[str, Any], end: str) -> str:
    address, port = record[f"network.{end}.address"], record[f"network.{end}.port"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
