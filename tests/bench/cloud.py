"""The emulated cloud: a fresh one for every measurement, slow on order, and what was sent to it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from machine import BIN, state_root

BITS = 8


def link(bits=None, latency_ms=0):
    """Rules for a line of so many bits per second, and an answer that much later to every request."""
    rules = []
    if bits:
        rules += [{"operation": name, "action": {"bandwidth": int(bits / BITS)}} for name in ("UploadPart", "PutObject")]
    if latency_ms:
        rules.append({"operation": "*", "action": {"stall_ms": latency_ms}})
    return rules


class Cloud:
    """`with Cloud() as cloud:` an emulator on a free port, its state forgotten at the end. With `tls` its clients have to
    trust `authority`; with `processors`, such as "1", it runs on these only."""

    def __init__(self, rules=(), tls=False, processors=None, import_seconds=0):
        self.folder = Path(tempfile.mkdtemp(prefix="build-image-bench.", dir=state_root()))
        self.log = self.folder / "requests"
        address = self.folder / "address"
        words = [BIN / "build-image-emulator-alibaba", "serve", "--state", self.folder / "cloud", "--bucket", "bench",
                 "--fast-etags", "--import-seconds", import_seconds, "--log-requests", self.log, "--print-address-to", address]
        self.authority = self.folder / "ca.pem" if tls else None
        if tls:
            words += ["--tls", "--ca-file", self.authority]
        if processors:
            words = ["taskset", "--cpu-list", processors, *words]
        for rule in rules:
            words += ["--fault-rule", json.dumps(rule)]
        self.process = subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL)
        while not address.exists():
            if self.process.poll() is not None:
                sys.exit("bench: the emulator did not start")
            time.sleep(0.01)
        self.url = address.read_text().strip()

    def environment(self):
        """Of a client."""
        return {**os.environ, "SSL_CERT_FILE": str(self.authority)} if self.authority else None

    def configure(self, folder, **settings):
        """Writes the `config.yml` of a build for this cloud."""
        values = {
            "ALIBABA_ACCESS_KEY_ID": "emulator-id", "ALIBABA_ACCESS_KEY_SECRET": "emulator-secret",
            "ALIBABA_REGION": "cn-hangzhou", "ALIBABA_BUCKET": "bench", "ALIBABA_OSS_ENDPOINT": self.url,
            "ALIBABA_ECS_ENDPOINT": self.url, "ALIBABA_STS_ENDPOINT": self.url, **settings,
        }
        text = "".join(f"{key}: {value}\n" for key, value in values.items())
        (Path(folder) / "config.yml").write_text(text)

    def requests(self):
        whole, _, _ = self.log.read_text().rpartition("\n")  # the last line may still be on its way
        return [json.loads(line) for line in whole.splitlines()]

    def sent(self):
        """Bytes of objects and parts that came in."""
        return sum(entry["bytes_in"] for entry in self.requests() if entry["operation"] in ("UploadPart", "PutObject"))

    def export(self, target):
        """The image that was registered, as a raw disk."""
        emulator = BIN / "build-image-emulator-alibaba"
        listed = subprocess.run([emulator, "images", "--state", self.folder / "cloud"], check=True, capture_output=True)
        image = json.loads(listed.stdout.splitlines()[0])
        subprocess.run([emulator, "export-image", "--state", self.folder / "cloud", image["id"], target], check=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        shutil.rmtree(self.folder)
