#!/bin/bash
#
# Uploads the disk beside this script to S3, imports it as a snapshot and registers the AMI. Needs the AWS command
# line with credentials, unzip, and the service role `vmimport`, which allows EC2 to read the bucket. AWS_BUCKET
# and AWS_REGION in the environment override the values below. Commands:
# https://docs.aws.amazon.com/cli/latest/reference/ec2/import-snapshot.html and register-image.html there.

set -e -u -o pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

file=@FILE@
member=@MEMBER@
image_name=@IMAGE_NAME@
tags=@TAGS@
share=@SHARE@
export AWS_BUCKET=${AWS_BUCKET:-@BUCKET@}
export AWS_REGION=${AWS_REGION:-@REGION@}
: "${AWS_BUCKET:?is not set: the S3 bucket for the disk}"
: "${AWS_REGION:?is not set: the region of the bucket, in which the image is registered}"
export AWS_DEFAULT_REGION=$AWS_REGION

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

work=$(mktemp -d -p "$PWD")
key=$(date -u +%Y%m%d--%H%M%S)--$image_name.vmdk
snapshot=''
image=''
clean_up() {
    rm -rf "$work"
    aws s3 rm --only-show-errors "s3://$AWS_BUCKET/$key" || :
    if [ -n "$snapshot" ] && [ -z "$image" ]; then
        aws ec2 delete-snapshot --snapshot-id "$snapshot" || :
    fi
}
trap clean_up EXIT

disk=$file
if [ -n "$member" ]; then
    unzip -q "$file" "$member" -d "$work"
    disk=$work/$member
fi
aws s3 cp "$disk" "s3://$AWS_BUCKET/$key"

task=$(aws ec2 import-snapshot --description "$image_name" \
    --disk-container "Format=VMDK,UserBucket={S3Bucket=$AWS_BUCKET,S3Key=$key}" \
    --query ImportTaskId --output text)
look() {
    aws ec2 describe-import-snapshot-tasks --import-task-ids "$task" \
        --query "ImportSnapshotTasks[0].SnapshotTaskDetail.$1" --output text
}
status=''
for ((count = 0; count < @IMPORT_COUNT@; count++)); do
    status=$(look Status)
    case $status in
    completed) break ;;
    active | None) sleep @IMPORT_DELAY@ ;;
    *) fail "import $task is $status: $(look StatusMessage)" ;;
    esac
done
[ "$status" = completed ] || fail "import $task did not end in time, look at it by hand"
snapshot=$(look SnapshotId)
aws ec2 create-tags --resources "$snapshot" --tags "$tags"

image=$(aws ec2 register-image --name "$image_name" --description "$image_name" \
    --architecture @ARCHITECTURE@ --boot-mode @BOOT_MODE@ --virtualization-type hvm \
    --ena-support --sriov-net-support simple --root-device-name /dev/xvda \
    --block-device-mappings "DeviceName=/dev/xvda,Ebs={SnapshotId=$snapshot,DeleteOnTermination=true,VolumeType=gp2}" \
    --query ImageId --output text)
state=''
for ((count = 0; count < @IMAGE_COUNT@; count++)); do
    state=$(aws ec2 describe-images --image-ids "$image" --query 'Images[0].State' --output text)
    case $state in
    available) break ;;
    pending) sleep @IMAGE_DELAY@ ;;
    *) fail "image $image is $state" ;;
    esac
done
[ "$state" = available ] || fail "image $image is not available in time, look at it by hand"
aws ec2 create-tags --resources "$image" --tags "$tags"
if [ -n "$share" ]; then
    aws ec2 modify-image-attribute --image-id "$image" --launch-permission "$share"
fi
printf 'image %s (%s)\n' "$image" "$image_name"
