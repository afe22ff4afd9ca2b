"""Writes errors as the services do: each protocol has a form, and some causes have another name at each service."""

import json
import uuid
from xml.sax.saxutils import escape

# Status and code of a cause at EC2, S3, and all others (query protocols and JSON).
CAUSES = {
    "unknown key": {"ec2": (401, "AuthFailure", "AWS was not able to validate the provided access credentials"),
                    "s3": (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
                    "query": (403, "InvalidClientTokenId", "The security token included in the request is invalid."),
                    "json": (403, "UnrecognizedClientException", "The security token included in the request is invalid.")},
    "unsigned": {"ec2": (400, "MissingAuthenticationToken", "Request is missing Authentication Token"),
                 "s3": (403, "AccessDenied", "Access Denied"),
                 "query": (403, "MissingAuthenticationToken", "Request is missing Authentication Token"),
                 "json": (403, "MissingAuthenticationTokenException", "Missing Authentication Token")},
    "signature": {"ec2": (401, "AuthFailure", "AWS was not able to validate the provided access credentials"),
                  "s3": (403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."),
                  "query": (403, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided."),
                  "json": (403, "InvalidSignatureException", "The request signature we calculated does not match the signature you provided.")},
    "expired": {"ec2": (400, "RequestExpired", "Request has expired."),
                "s3": (400, "ExpiredToken", "The provided token has expired."),
                "query": (403, "ExpiredToken", "The security token included in the request is expired"),
                "json": (403, "ExpiredTokenException", "The security token included in the request is expired")},
    "skewed": {"ec2": (400, "RequestExpired", "Request has expired."),
               "s3": (403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
               "query": (403, "SignatureDoesNotMatch", "Signature expired: the request is too old"),
               "json": (403, "InvalidSignatureException", "Signature expired: the request is too old")},
    "denied": {"ec2": (403, "UnauthorizedOperation", "You are not authorized to perform this operation."),
               "s3": (403, "AccessDenied", "Access Denied"),
               "query": (403, "AccessDenied", "User is not authorized to perform this action"),
               "json": (403, "AccessDeniedException", "User is not authorized to perform this action")},
    "mismatch": {"ec2": (400, "InvalidRequest", ""), "s3": (400, "InvalidRequest", ""), "query": (400, "ValidationError", ""),
                 "json": (400, "ValidationException", "")},
}


class Refused(Exception):
    """An answer that is an error. `status` 0: what the service usually has."""

    def __init__(self, code, message, status=400, **members):
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.members = code, message, status, members


def family(service, protocol):
    if service in ("ec2", "s3"):
        return service
    return "query" if protocol == "query" else "json"


def caused(cause, service, protocol, message=None):
    status, code, usual = CAUSES[cause][family(service, protocol)]
    return Refused(code, message or usual, status)


def write(service, protocol, error):
    """Status, headers, and body of an error."""
    request = str(uuid.uuid4())
    code, message = escape(error.code), escape(error.message)
    if service == "s3":
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{request}</RequestId></Error>'
        return error.status, {"Content-Type": "application/xml", "x-amz-request-id": request}, body.encode()
    if service == "ec2":
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors><RequestID>{request}</RequestID></Response>'
        return error.status, {"Content-Type": "text/xml;charset=UTF-8"}, body.encode()
    if protocol == "query":
        body = f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request}</RequestId></ErrorResponse>"
        return error.status, {"Content-Type": "text/xml"}, body.encode()
    body = {"message": error.message, "Message": error.message, "__type": error.code, **error.members}
    return error.status, {"Content-Type": "application/json", "x-amzn-ErrorType": error.code, "x-amzn-RequestId": request}, json.dumps(body).encode()
