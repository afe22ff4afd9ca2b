#!/bin/bash
#
# Uploads the disk beside this script as a page blob and creates an image from it. Needs the Azure command line,
# logged in (`az login`), tar, and the connection string of the storage account in AZURE_STORAGE_CONNECTION_STRING.
# Environment variables override the values below. Commands: https://learn.microsoft.com/cli/azure/storage/blob and
# https://learn.microsoft.com/cli/azure/image.

set -e -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

file=@FILE@
member=@MEMBER@
image_name=@IMAGE_NAME@
tags=@TAGS@
AZURE_STORAGE_CONTAINER_NAME=${AZURE_STORAGE_CONTAINER_NAME:-@CONTAINER@}
AZURE_RESOURCE_GROUP=${AZURE_RESOURCE_GROUP:-@RESOURCE_GROUP@}
AZURE_REGION=${AZURE_REGION:-@REGION@}
: "${AZURE_STORAGE_CONNECTION_STRING:?is not set: the connection string of the storage account}"
: "${AZURE_STORAGE_CONTAINER_NAME:?is not set: the container for the disk}"
: "${AZURE_RESOURCE_GROUP:?is not set: the resource group of the image}"
: "${AZURE_REGION:?is not set: the region of the image}"
export AZURE_STORAGE_CONNECTION_STRING

work=$(mktemp -d -p "$PWD")
trap 'rm -rf "$work"' EXIT

disk=$file
if [ -n "$member" ]; then
    tar -xSzf "$file" -C "$work" -- "$member"
    disk=$work/$member
fi
# A fixed VHD consists of the guest's disk, whose size is a multiple of 1 MiB, and a footer.
if [ "$(($(stat -c %s "$disk") % 1048576))" -ne 512 ]; then
    printf 'error: %s is no fixed VHD of a whole number of MiB\n' "$disk" >&2
    exit 1
fi

az storage blob upload --type page --container-name "$AZURE_STORAGE_CONTAINER_NAME" \
    --name "$image_name.vhd" --file "$disk" --max-connections @THREADS@
source=$(az storage blob url --container-name "$AZURE_STORAGE_CONTAINER_NAME" \
    --name "$image_name.vhd" --output tsv)

# One `key=value` per line; the command line has no better syntax for values with blanks.
mapfile -t tag_words < <(printf '%s' "$tags")
az image create --resource-group "$AZURE_RESOURCE_GROUP" --location "$AZURE_REGION" \
    --name "$image_name" --source "$source" --os-type Linux --hyper-v-generation @GENERATION@ \
    --os-disk-caching ReadWrite --tags "${tag_words[@]}" --query id --output tsv
# The blob is kept: delete it when no machine will be created from the image any more.
