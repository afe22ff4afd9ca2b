#!/bin/bash
#
# Uploads the disk beside this script to Cloud Storage and creates an image from it. Needs Google's command line
# (gcloud), logged in. GCE_BUCKET and GCE_PROJECT in the environment override the values below. Command:
# https://cloud.google.com/sdk/gcloud/reference/compute/images/create.

set -e -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

file=@FILE@
is_package=@IS_PACKAGE@
image_name=@IMAGE_NAME@
labels=@LABELS@
features=@FEATURES@
GCE_BUCKET=${GCE_BUCKET:-@BUCKET@}
GCE_PROJECT=${GCE_PROJECT:-@PROJECT@}
: "${GCE_BUCKET:?is not set: the bucket for the disk}"
: "${GCE_PROJECT:?is not set: the project of the image}"

object=gs://$GCE_BUCKET/$(date -u +%Y%m%d/%Y%m%d--%H%M%S)--$image_name.tar.gz
work=$(mktemp -d -p "$PWD")
clean_up() {
    rm -rf "$work"
    gcloud storage rm --quiet "$object" || :
}
trap clean_up EXIT

package=$file
if [ "$is_package" = no ]; then
    package=$work/disk.tar.gz
    tar --format=oldgnu -Sczf "$package" --transform='s/.*/disk.raw/' -- "$file"
fi
gcloud storage cp "$package" "$object"
gcloud compute images create "$image_name" --project="$GCE_PROJECT" --source-uri="$object" \
    --architecture=@ARCHITECTURE@ ${features:+--guest-os-features="$features"} \
    ${labels:+--labels="$labels"} --format='value(selfLink)'
