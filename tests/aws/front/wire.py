"""Reads requests, and writes and checks answers, by the service models of the vendor (botocore).

A request becomes the parameters of its operation, and an answer is written from the members of the operation's output.
Whatever the model does not have is refused: an unknown parameter, a number that is none, a value outside of an
enumeration, a list that does not count from 1.
"""

import base64
import datetime
import functools
import io
import json
import re
import urllib.parse
import uuid
import xml.etree.ElementTree as ElementTree
from xml.sax.saxutils import escape

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.validate

# Names of services in signatures, and of their models where they differ.
MODELS = {"servicequotas": "service-quotas"}
# Headers that belong to signing and to clients, not to an operation.
FREE_HEADERS = {"x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-user-agent", "x-amz-decoded-content-length",
                "x-amz-trailer", "x-amz-target", "x-amz-sdk-checksum-algorithm"}


class Mismatch(Exception):
    """A request or an answer is not as the model of the service says."""


@functools.cache
def model_of(service):
    """The model of a service by its name in signatures; None: there is none."""
    name = MODELS.get(service, service)
    try:
        described = botocore.loaders.Loader().load_service_model(name, "service-2")
    except botocore.exceptions.UnknownServiceError:
        return None
    return botocore.model.ServiceModel(described, name)


@functools.cache
def templates(service):
    """Operations of a REST service with what their path and query must have."""
    found = []
    model = model_of(service)
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        pattern = re.escape(path).replace(r"\{", "{").replace(r"\}", "}").replace(r"\+", "+")
        pattern = re.sub(r"\{(\w+)\+\}", r"(?P<\1>.+)", pattern)
        pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern)
        fixed = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        fixed.pop("x-id", None)
        found.append((operation, re.compile(pattern + "/?"), fixed))
    return found


def text_value(shape, text, place):
    """A scalar from its text in a query, a header, or XML."""
    kind = shape.type_name
    if kind in ("integer", "long"):
        if not re.fullmatch(r"-?\d{1,19}", text):
            raise Mismatch(f"{place}: `{text}` is not an integer")
        return int(text)
    if kind in ("float", "double"):
        try:
            return float(text)
        except ValueError:
            raise Mismatch(f"{place}: `{text}` is not a number") from None
    if kind == "boolean":
        if text not in ("true", "false"):
            raise Mismatch(f"{place}: `{text}` is neither `true` nor `false`")
        return text == "true"
    if kind == "timestamp":
        return moment(text, place)
    if kind == "blob":
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise Mismatch(f"{place}: not base64") from None
    return enumerated(shape, text, place)


def enumerated(shape, text, place):
    if getattr(shape, "enum", None) and text not in shape.enum:
        raise Mismatch(f"{place}: `{text}` is not one of {', '.join(shape.enum)}")
    return text


def moment(text, place):
    for form in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ", "%a, %d %b %Y %H:%M:%S GMT"):
        try:
            return datetime.datetime.strptime(text, form).replace(tzinfo=datetime.timezone.utc)
        except ValueError:
            pass
    raise Mismatch(f"{place}: `{text}` is not a time")


class Form:
    """The parameters of a query, each of which an operation must use."""

    def __init__(self, pairs, ec2):
        self.values, self.ec2, self.used = {}, ec2, set()
        for name, value in pairs:
            if name in self.values:
                raise Mismatch(f"parameter {name} is given twice")
            self.values[name] = value

    def has(self, prefix):
        return any(name == prefix or name.startswith(prefix + ".") for name in self.values)

    def member(self, prefix, name, shape):
        names = shape.serialization
        if self.ec2:
            word = names.get("queryName") or names.get("name", name)
            word = word if "queryName" in names else word[0].upper() + word[1:]
        else:
            word = names.get("name", name)
        return f"{prefix}.{word}" if prefix else word

    def read(self, shape, prefix=""):
        kind = shape.type_name
        if kind == "structure":
            places = {name: self.member(prefix, name, member) for name, member in shape.members.items()}
            return {name: self.read(shape.members[name], place) for name, place in places.items() if self.has(place)}
        if kind == "list":
            if not self.ec2 and not shape.serialization.get("flattened"):
                prefix += "." + shape.member.serialization.get("name", "member")
            elif not self.ec2 and shape.member.serialization.get("name"):
                prefix = ".".join([*prefix.split(".")[:-1], shape.member.serialization["name"]])
            # An empty list of the query protocol.
            self.used.add(prefix.rsplit(".", 1)[0]) if not self.ec2 and self.values.get(prefix.rsplit(".", 1)[0]) == "" else None
            found = {name[len(prefix) + 1:].split(".")[0] for name in self.values if name.startswith(prefix + ".")}
            if found != {str(number) for number in range(1, len(found) + 1)}:
                raise Mismatch(f"the list {prefix} does not count from 1: {sorted(found)}")
            return [self.read(shape.member, f"{prefix}.{number}") for number in range(1, len(found) + 1)]
        if kind == "map":
            flat = shape.serialization.get("flattened")
            entries = prefix if flat else prefix + ".entry"
            result, number = {}, 1
            while self.has(f"{entries}.{number}"):
                key = self.read(shape.key, f"{entries}.{number}.{shape.key.serialization.get('name', 'key')}")
                result[key] = self.read(shape.value, f"{entries}.{number}.{shape.value.serialization.get('name', 'value')}")
                number += 1
            return result
        if prefix not in self.values:
            raise Mismatch(f"parameter {prefix} has members, but is a {kind}")
        self.used.add(prefix)
        return text_value(shape, self.values[prefix], f"parameter {prefix}")


def json_value(shape, value, place):
    kind = shape.type_name
    expected = {"structure": dict, "map": dict, "list": list, "string": str, "blob": str, "character": str, "boolean": bool,
                "integer": int, "long": int, "float": (int, float), "double": (int, float), "timestamp": (int, float, str)}[kind]
    if not isinstance(value, expected) or (isinstance(value, bool) and kind != "boolean"):
        raise Mismatch(f"{place}: {json.dumps(value)} is not a {kind}")
    if kind == "structure":
        names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        unknown = sorted(set(value) - set(names))
        if unknown:
            raise Mismatch(f"{place}: unknown member {', '.join(unknown)}")
        return {names[word][0]: json_value(names[word][1], part, f"{place}.{word}") for word, part in value.items() if part is not None}
    if kind == "list":
        return [json_value(shape.member, part, f"{place}[{number}]") for number, part in enumerate(value)]
    if kind == "map":
        return {key: json_value(shape.value, part, f"{place}.{key}") for key, part in value.items()}
    if kind == "timestamp":
        return moment(value, place) if isinstance(value, str) else datetime.datetime.fromtimestamp(value, datetime.timezone.utc)
    if kind == "blob":
        return base64.b64decode(value)
    return enumerated(shape, value, place) if kind == "string" else value


def xml_value(shape, node, place):
    kind = shape.type_name
    tag = lambda each: each.tag.rsplit("}", 1)[-1]
    if kind == "structure":
        result = {}
        names = {member.serialization.get("name", name): (name, member) for name, member in shape.members.items()}
        for child in node:
            if tag(child) not in names:
                raise Mismatch(f"{place}: unknown element {tag(child)}")
            name, member = names[tag(child)]
            if member.type_name == "list" and member.serialization.get("flattened"):
                result.setdefault(name, []).append(xml_value(member.member, child, f"{place}.{name}"))
            else:
                result[name] = xml_value(member, child, f"{place}.{name}")
        return result
    if kind == "list":
        return [xml_value(shape.member, child, place) for child in node]
    return text_value(shape, node.text or "", place)


class Read:
    """A request as its operation sees it."""

    def __init__(self, operation, parameters):
        self.operation, self.parameters = operation, parameters
        if operation.input_shape is not None:
            shown = {name: value for name, value in parameters.items() if not hasattr(value, "read")}
            report = botocore.validate.ParamValidator().validate(shown, operation.input_shape)
            if report.has_errors():
                raise Mismatch(" ".join(report.generate_report().split()))


def read(service, method, path, query, headers, body):
    """Reads a request: `query` as sent, `headers` in lower case."""
    model = model_of(service)
    if model is None:
        raise Mismatch(f"there is no service `{service}`")
    protocol = model.resolved_protocol
    if protocol in ("ec2", "query"):
        return read_query(model, protocol, method, path, query, headers, body)
    if protocol == "json":
        target = headers.get("x-amz-target", "")
        name = target.rsplit(".", 1)[-1]
        if target != f"{model.metadata['targetPrefix']}.{name}" or name not in model.operation_names:
            raise Mismatch(f"x-amz-target: unknown operation `{target}`")
        operation = model.operation_model(name)
        return Read(operation, json_value(operation.input_shape, json.loads(body or b"{}"), name) if operation.input_shape else {})
    return read_rest(service, protocol, method, path, query, headers, body)


def read_query(model, protocol, method, path, query, headers, body):
    if method == "POST" and query:
        raise Mismatch("parameters in the query of a POST")
    if path not in ("", "/"):
        raise Mismatch(f"the path is `{path}`, not `/`")
    if method == "POST" and headers.get("content-type", "").split(";")[0] != "application/x-www-form-urlencoded":
        raise Mismatch(f"the content type is `{headers.get('content-type')}`")
    text = body.decode() if method == "POST" else query
    form = Form(urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=True), protocol == "ec2")
    name, version = form.values.pop("Action", None), form.values.pop("Version", None)
    if version != model.api_version:
        raise Mismatch(f"Version is `{version}`, not `{model.api_version}`")
    if name not in model.operation_names:
        raise Mismatch(f"unknown action `{name}`")
    operation = model.operation_model(name)
    parameters = form.read(operation.input_shape) if operation.input_shape else {}
    unknown = sorted(set(form.values) - form.used)
    if unknown:
        raise Mismatch(f"unknown parameter {', '.join(unknown)}")
    return Read(operation, parameters)


def read_rest(service, protocol, method, path, query, headers, body):
    pairs = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
    pairs.pop("x-id", None)
    best = None
    for operation, pattern, fixed in templates(service):
        found = pattern.fullmatch(path)
        if operation.http["method"] != method or not found or any(pairs.get(key) != value for key, value in fixed.items()):
            continue
        shape = operation.input_shape
        members = shape.members if shape else {}
        required = shape.required_members if shape else []
        at = lambda name, members=members: members[name].serialization.get("name", name)
        place = lambda name, members=members: members[name].serialization.get("location")
        if any(place(name) == "querystring" and at(name) not in pairs for name in required):
            continue
        if any(place(name) == "header" and at(name).lower() not in headers for name in required if service == "s3"):
            continue
        needs = len(fixed) + sum(place(name) in ("querystring", "header") for name in required)
        if best is None or needs > best[0]:
            best = (needs, operation, found, fixed)
    if best is None:
        raise Mismatch(f"no operation has `{method} {path}?{query}`")
    _, operation, found, fixed = best
    shape = operation.input_shape
    parameters, used, known = {}, set(fixed), set(FREE_HEADERS)
    members = shape.members if shape else {}
    rest = {}
    for name, member in members.items():
        location, word = member.serialization.get("location"), member.serialization.get("name", name)
        if location == "uri":
            text = urllib.parse.unquote(found.groupdict()[word])
            parameters[name] = text_value(member, text, f"the {name} in the path")
        elif location == "querystring":
            used.add(word)
            if word in pairs:
                if member.type_name == "list":
                    parameters[name] = [text_value(member.member, pairs[word], word)]
                else:
                    parameters[name] = text_value(member, pairs[word], f"parameter {word}")
        elif location == "header":
            known.add(word.lower())
            if word.lower() in headers:
                parameters[name] = header_value(member, headers[word.lower()], word)
        elif location == "headers":
            known.add(word.lower() + "*")
            parameters[name] = {key[len(word):]: value for key, value in headers.items() if key.startswith(word.lower())}
        elif shape.serialization.get("payload") != name:
            rest[name] = member
    unknown = sorted(set(pairs) - used)
    if unknown:
        raise Mismatch(f"{operation.name}: unknown parameter {', '.join(unknown)} in the query")
    prefixes = tuple(word[:-1] for word in known if word.endswith("*"))
    strange = [word for word in headers if word.startswith("x-amz-") and word not in known and not (prefixes and word.startswith(prefixes))]
    if strange:
        raise Mismatch(f"{operation.name}: unknown header {', '.join(sorted(strange))}")
    payload = shape.serialization.get("payload") if shape else None
    if payload and members[payload].type_name in ("blob", "string"):
        parameters[payload] = body
    elif payload and body:
        parameters[payload] = body_value(protocol, members[payload], body, payload)
    elif rest and body:
        whole = body_value(protocol, shape, body, operation.name)
        if set(whole) - set(rest):
            raise Mismatch(f"{operation.name}: {sorted(set(whole) - set(rest))} do not belong into the body")
        parameters.update(whole)
    elif not rest and not payload and body:
        raise Mismatch(f"{operation.name} has no body")
    return Read(operation, parameters)


def header_value(shape, text, place):
    if shape.type_name == "list":
        return [text_value(shape.member, part.strip(), place) for part in text.split(",")]
    return text_value(shape, text, f"header {place}")


def body_value(protocol, shape, body, place):
    try:
        if protocol == "rest-json":
            return json_value(shape, json.loads(body), place)
        return xml_value(shape, ElementTree.fromstring(body), place)
    except (ValueError, ElementTree.ParseError) as error:
        raise Mismatch(f"{place}: the body cannot be parsed: {error}") from None


def shown(shape, value):
    """A scalar as text of an answer."""
    if shape.type_name == "boolean":
        return "true" if value else "false"
    if shape.type_name == "timestamp":
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03}Z"
    if shape.type_name == "blob":
        return base64.b64encode(value).decode()
    return enumerated(shape, str(value), "an answer")


def xml(shape, value):
    """An answer of EC2."""
    if shape.type_name == "structure":
        unknown = set(value) - set(shape.members)
        if unknown:
            raise Mismatch(f"the answer has unknown members: {sorted(unknown)}")
        parts = []
        for name, part in value.items():
            if part is not None:
                word = shape.members[name].serialization.get("name", name)
                parts.append(f"<{word}>{xml(shape.members[name], part)}</{word}>")
        return "".join(parts)
    if shape.type_name == "list":
        word = shape.member.serialization.get("name", "item")
        return "".join(f"<{word}>{xml(shape.member, part)}</{word}>" for part in value)
    return escape(shown(shape, value))


def as_json(value):
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    raise TypeError(type(value))


def write(operation, value):
    """Status, headers, and body of an answer."""
    model, shape = operation.service_model, operation.output_shape
    status = operation.http.get("responseCode", 200)
    request = str(uuid.uuid4())
    if model.resolved_protocol == "ec2":
        inner = xml(shape, value) if shape else "<return>true</return>"
        space = f"http://ec2.amazonaws.com/doc/{model.api_version}/"
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{operation.name}Response xmlns="{space}"><requestId>{request}</requestId>{inner}</{operation.name}Response>'
        return status, {"Content-Type": "text/xml;charset=UTF-8", "x-amzn-RequestId": request}, text.encode()
    headers, rest, body = {"Content-Type": "application/json", "x-amzn-RequestId": request}, {}, None
    for name, part in value.items():
        member = shape.members[name]
        if member.serialization.get("location") == "header":
            headers[member.serialization["name"]] = shown(member, part)
        elif shape.serialization.get("payload") == name:
            body, headers["Content-Type"] = part, "application/octet-stream"
        elif part is not None:
            rest[name] = part
    return status, headers, json.dumps(rest, default=as_json).encode() if body is None else body


def check_answer(operation, status, headers, body):
    """Parses an answer as the vendor's client does, and compares it with the model."""
    shape = operation.output_shape
    parser = botocore.parsers.create_parser(operation.service_model.resolved_protocol)
    if operation.has_streaming_output and status < 300:
        body = io.BytesIO(body)
    answer = {"status_code": status, "headers": botocore.compat.HTTPHeaders.from_dict(headers), "body": body, "context": {"operation_name": operation.name}}
    try:
        parsed = parser.parse(answer, shape)
    except Exception as error:  # The parser's own complaints are of many types.
        raise Mismatch(f"{operation.name}: the answer cannot be parsed: {error}") from None
    parsed = {name: value for name, value in parsed.items() if name != "ResponseMetadata" and not isinstance(value, io.BytesIO)}
    if status < 300 and shape is not None:
        report = botocore.validate.ParamValidator().validate(parsed, shape)
        if report.has_errors():
            raise Mismatch(f"answer of {operation.name}: " + " ".join(report.generate_report().split()))
    return parsed
