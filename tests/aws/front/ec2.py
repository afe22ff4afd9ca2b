"""Holds what the calls of EC2 have in common: ids, tags, filters, pages, launch permissions."""

import fnmatch
import re

from errors import Refused

# What is not an account id: organisations and organisational units.
ORGANISATION = re.compile(r"arn:aws[a-z-]*:organizations::\d{12}:organization/o-[a-z0-9]{10,32}")
UNIT = re.compile(r"arn:aws[a-z-]*:organizations::\d{12}:ou/o-[a-z0-9]{10,32}/ou-[0-9a-z]{4,32}-[0-9a-z]{8,32}")


def invalid(message, code="InvalidParameterValue"):
    return Refused(code, message)


def check_id(kind, code, name):
    if not re.fullmatch(rf"{kind}-([0-9a-f]{{8}}|[0-9a-f]{{17}})", name):
        raise invalid(f'Invalid id: "{name}" (expecting "{kind}-...")', f"{code}.Malformed")


def check_tags(tags):
    """Tags as a map, checked."""
    keys = [tag.get("Key", "") for tag in tags]
    if len(set(keys)) != len(keys):
        raise invalid("Duplicate tag keys found.")
    for tag in tags:
        key, value = tag.get("Key", ""), tag.get("Value", "")
        if not 1 <= len(key) <= 127 or len(value) > 255:
            raise invalid(f"Tag key `{key}` or its value exceeds the maximum length.")
        if key.lower().startswith("aws:"):
            raise invalid("Tag keys starting with 'aws:' are reserved for internal use")
    if len(keys) > 50:
        raise invalid("More than 50 tags.", "TagLimitExceeded")
    return {tag["Key"]: tag.get("Value", "") for tag in tags}


def specified_tags(specifications, kinds):
    """Tags by the kind of resource, of a request that creates some."""
    found = {}
    for each in specifications:
        kind = each.get("ResourceType")
        if kind not in kinds:
            raise invalid(f"'{kind}' is not a valid taggable resource type for this operation.")
        if kind in found:
            raise invalid("The same resource type may not be specified more than once in tag specifications.")
        found[kind] = check_tags(each.get("Tags", []))
    return found


def listed(tags):
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def filtered(objects, filters, known, tags=True):
    """Objects that pass all filters; `known` has the texts of an object by the name of a filter."""
    for wanted in filters:
        name, values = wanted.get("Name", ""), wanted.get("Values", [])
        if not values:
            raise invalid(f"The filter '{name}' has no values")
        if name.startswith("tag:") and tags:
            texts = lambda each, key=name[4:]: [each.tags[key]] if key in each.tags else []
        elif name == "tag-key" and tags:
            texts = lambda each: list(each.tags)
        elif name in known:
            texts = known[name]
        else:
            raise invalid(f"The filter '{name}' is invalid")
        if len(values) > 200:
            raise invalid(f"The maximum number of filter values specified on a single call is 200, and '{name}' has {len(values)}", "FilterLimitExceeded")
        patterns = [value.replace("[", "[[]") for value in values]
        objects = [each for each in objects if any(fnmatch.fnmatchcase(text, pattern) for text in texts(each) for pattern in patterns)]
    return objects


def paged(call, objects, limits, ids):
    """One page of a list, and the token of the next."""
    given = call.given
    if "MaxResults" in given:
        if ids:
            raise invalid("The parameter MaxResults cannot be used with ids", "InvalidParameterCombination")
        if not limits[0] <= given["MaxResults"] <= limits[1]:
            raise invalid(f"Value ( {given['MaxResults']} ) for parameter maxResults is invalid. Expecting a value between {limits[0]} and {limits[1]}.")
    size = min(given.get("MaxResults", 1 << 30), call.account.settings["page"])
    if call.account.settings["empty_pages"] and "NextToken" not in given and not ids:
        return [], f"page-{call.operation.name}-0"
    first = 0
    if "NextToken" in given:
        found = re.fullmatch(r"page-(\w+)-(\d+)", given["NextToken"])
        if not found or found[1] != call.operation.name:
            raise invalid("The token is invalid", "InvalidNextToken")
        first = int(found[2])
    page, rest = objects[first:first + size], objects[first + size:]
    return page, f"page-{call.operation.name}-{first + size}" if rest else None


def permissions(given, add, remove, allowed):
    """Launch or volume permissions after a change; a permission is a pair of kind and value."""
    for each in add + remove:
        if len(each) != 1:
            raise invalid("A permission has one member", "InvalidParameterCombination")
        ((kind, value),) = each.items()
        bad = (kind == "UserId" and not re.fullmatch(r"\d{12}", value)) or (kind == "OrganizationArn" and not ORGANISATION.fullmatch(value)) \
            or (kind == "OrganizationalUnitArn" and not UNIT.fullmatch(value))
        if kind not in allowed or bad:
            code = "InvalidAMIAttributeItemValue" if kind == "UserId" else "InvalidParameterValue"
            raise invalid(f"Invalid attribute item value \"{value}\" for {kind} item type.", code)
    if not add and not remove:
        raise invalid("No attribute changes specified.", "InvalidParameterCombination")
    pairs = lambda each: {next(iter(one.items())) for one in each}
    return (given | pairs(add)) - pairs(remove)


def shorthand(given, groups, accounts, more=()):
    """Permissions of the older parameters of the Modify…Attribute calls, as lists to add and to remove."""
    named = [("Group", value) for value in given.get(groups, [])] + [("UserId", value) for value in given.get(accounts, [])]
    for parameter, kind in more:
        named += [(kind, value) for value in given.get(parameter, [])]
    each = [{kind: value} for kind, value in named]
    operation = given.get("OperationType")
    if each and operation is None:
        raise invalid("The request must contain the parameter operationType", "MissingParameter")
    return (each, []) if operation == "add" else ([], each)
