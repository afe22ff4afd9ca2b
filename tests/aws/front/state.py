"""Holds accounts with what they own, what tests planned for them, and what they requested."""

import datetime
import fnmatch
import json
import os
import secrets
import threading

from errors import Refused, caused

BLOCK = 512 << 10
BLOCKS_PER_GIB = (1 << 30) // BLOCK
# Regions, and those that an account must enable first.
REGIONS = ["us-east-1", "us-east-2", "us-west-2", "eu-central-1", "eu-west-1"]
OPT_IN = ["af-south-1"]
SETTINGS = {
    # Requests about an object until its state changes.
    "polls": 2,
    # Objects in one answer at most; the rest has a token.
    "page": 1000,
    # Whether the first page of a list has nothing but the token of the next, which the reference permits.
    "empty_pages": False,
    # Whether snapshots are encrypted without a request.
    "encrypted": False,
    # What the account blocks: public images.
    "block_public": False,
    # Quotas of a region: images, public images, entities that an image is shared with, snapshots.
    "images": 50_000,
    "public_images": 5,
    "shares": 1_000,
    "snapshots": 100_000,
}


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def fresh(kind):
    return f"{kind}-{secrets.token_hex(9)[:17]}"


class Pending:
    """A state that changes after some requests about it."""

    def __init__(self, polls):
        self.left = polls

    def poll(self):
        """Whether the state has changed."""
        self.left -= 1
        return self.left < 0


class Snapshot:
    """A snapshot; `path` is a sparse file with its blocks."""

    def __init__(self, account, region, gib, directory, **more):
        self.id, self.account, self.region, self.gib = fresh("snap"), account, region, gib
        self.path = os.path.join(directory, f"{self.id}.raw")
        self.state, self.progress, self.started, self.description = "pending", "0%", now(), ""
        self.tags, self.key, self.encrypted, self.parent = {}, None, False, None
        # Checksums by block; requests at work by block; what it waits for.
        self.blocks, self.writing, self.waits, self.direct, self.lock = {}, set(), None, False, threading.Lock()
        self.users, self.is_public = set(), False
        self.__dict__.update(more)
        open(self.path, "wb").close()

    def poll(self):
        if self.waits is not None and self.waits.poll():
            self.waits, self.state, self.progress = None, "completed", "100%"

    def visible_to(self, account):
        return self.account == account or self.is_public or account in self.users

    def read_from(self, older):
        """Holds the blocks of a completed snapshot, which never change."""
        os.unlink(self.path)
        os.link(older.path, self.path)

    def discard(self):
        os.unlink(self.path)


class Rule:
    """An error that a test wants for some requests, or a delay."""

    def __init__(self, members):
        self.members, self.selected, self.struck = members, 0, 0
        unknown = set(members) - {"service", "operation", "region", "nth", "count", "code", "message", "status", "cause", "after", "key", "reason", "expire", "until"}
        if unknown:
            raise ValueError(f"unknown members of a rule: {sorted(unknown)}")

    def strikes(self, service, operation, region, key):
        wanted = [("service", service), ("operation", operation), ("region", region), ("key", key)]
        if not all(fnmatch.fnmatchcase(value, self.members.get(name, "*")) for name, value in wanted):
            return False
        self.selected += 1
        first = self.members.get("nth", 1)
        last = first + self.members.get("count", 1 if "nth" in self.members else 1 << 60)
        strikes = first <= self.selected < last
        self.struck += strikes
        return strikes

    def error(self, service, protocol):
        if "cause" in self.members:
            return caused(self.members["cause"], service, protocol)
        code = self.members.get("code", "InternalError")
        more = {"Reason": self.members["reason"]} if "reason" in self.members else {}
        return Refused(code, self.members.get("message", f"{code} by a rule"), self.members.get("status", 400), **more)


class Account:
    """An account with all that it owns."""

    def __init__(self, number, directory):
        self.id, self.directory = number, os.path.join(directory, number)
        os.makedirs(self.directory)
        self.settings = dict(SETTINGS)
        # By region: snapshots, images, image ids that were deregistered, import tasks; by token: requests.
        self.snapshots, self.images, self.tasks = {}, {}, {}
        self.gone, self.tokens = set(), {}
        self.rules, self.requests, self.mismatches, self.expired = [], [], [], set()
        # Keys of encryption by region; when uploads in parts began.
        self.keys, self.initiated = {}, {}
        self.answered = threading.Condition()

    def served(self, record):
        """Records a request that was answered."""
        with self.answered:
            self.requests.append(record)
            self.answered.notify_all()

    def wait_for_another(self, operation):
        """Waits until a later request of an operation is answered; 30 seconds at most."""
        with self.answered:
            before = len(self.requests)
            self.answered.wait_for(lambda: any(one["operation"] == operation for one in self.requests[before:]), 30)

    def once(self, kind, token, parameters, refused):
        """The result of an earlier request with a token; other parameters are refused."""
        if not token:
            return None
        text = json.dumps({name: value for name, value in parameters.items() if name != "DryRun"}, sort_keys=True, default=str)
        earlier = self.tokens.get((kind, token))
        if earlier is None:
            self.tokens[kind, token] = [text, None]
            return None
        if earlier[0] != text:
            raise refused
        return earlier[1]

    def remember(self, kind, token, result):
        if token:
            self.tokens[kind, token][1] = result

    def forget(self, kind, token):
        """After a request that failed."""
        if token and self.tokens.get((kind, token), [None, 1])[1] is None:
            self.tokens.pop((kind, token), None)


class World:
    """All accounts of a server."""

    def __init__(self, directory):
        self.directory, self.accounts, self.lock = directory, {}, threading.RLock()

    def new_account(self):
        with self.lock:
            number = str(secrets.randbelow(900_000_000_000) + 100_000_000_000)
            self.accounts[number] = Account(number, self.directory)
            return self.accounts[number]

    def snapshot(self, account, region, name):
        """A snapshot of a region that an account may see; None: it may not, or there is none."""
        for each in self.accounts.values():
            found = each.snapshots.get((region, name))
            if found is not None and found.visible_to(account.id):
                return found
        return None

    def image(self, account, region, name):
        for each in self.accounts.values():
            found = each.images.get((region, name))
            if found is not None and found.visible_to(account.id):
                return found
        return None


class Call:
    """A request that the front answers."""

    def __init__(self, world, account, region, operation, given):
        self.world, self.account, self.region, self.operation, self.given = world, account, region, operation, given

    def dry_run(self):
        """Ends a request that only asks whether it would be permitted."""
        if self.given.get("DryRun"):
            raise Refused("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)
