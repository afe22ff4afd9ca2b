"""Checks and their outcome: one JSON line each on standard output, read by `run`. Over TLS, the names of libraries end in
` TLS`."""

import json
import urllib.request


class Ledger:
    """Writes down what a client library did. `code_of` finds the vendor's code in an exception."""

    def __init__(self, sdk, url, code_of):
        self.sdk, self.url, self.code_of = sdk + (" TLS" if url.startswith("https:") else ""), url, code_of

    def note(self, operation, check, error):
        line = {"sdk": self.sdk, "operation": operation, "check": check, "error": error}
        print(json.dumps(line), flush=True)

    def does(self, operation, check, call, want=None):
        """The call succeeds; its result equals `want`, or satisfies it when it is callable."""
        try:
            got = call()
            if want is not None:
                good = want(got) if callable(want) else got == want
                self.note(operation, check, None if good else f"got {repr(got)[:300]}")
            else:
                self.note(operation, check, None)
            return got
        except Exception as error:  # whatever a library throws is a failed check
            self.note(operation, check, f"{type(error).__name__}: {str(error)[:500]}")
            return None

    def refused(self, operation, check, call, code):
        """The call is refused with this code."""
        try:
            got = call()
            self.note(operation, check, f"not refused, but {repr(got)[:300]}")
        except Exception as error:
            found = self.code_of(error)
            good = found == code or (isinstance(code, tuple) and found in code)
            text = None if good else f"{found} instead of {code}: {str(error)[:300]}"
            self.note(operation, check, text)

    def faults(self, *rules):
        """Replaces the emulator's fault rules."""
        body = json.dumps(list(rules)).encode()
        request = urllib.request.Request(f"{self.url}/_emulator/faults", body, method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).close()

    def struck(self):
        """How often each fault rule struck."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/_emulator/faults") as answer:
            return [rule["struck"] for rule in json.load(answer)]


def blob(length, seed=1):
    """Bytes that repeat at no power of two."""
    piece = bytes((index * 7 + seed) % 251 for index in range(251 * 16))
    return (piece * (length // len(piece) + 1))[:length]
