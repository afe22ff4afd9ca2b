"""Times the stages of a chain of programs, and tells them at its end as JSON."""

import json
import subprocess
import time

BUCKET, REGION, ID, SECRET = "bench", "cn-hangzhou", "emulator-id", "emulator-secret"


class Stages:
    def __init__(self):
        self.took = {}

    def run(self, name, words):
        self.call(name, lambda: subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL))

    def call(self, name, what):
        begun = time.monotonic()
        what()
        self.took[name] = time.monotonic() - begun

    def tell(self):
        print(json.dumps(self.took))
