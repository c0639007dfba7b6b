#!/usr/bin/env bash
# What a Google Cloud project needs once: the interfaces, a bucket, and a service account that may read and write that bucket
# and nothing else. Started again, it makes what is missing.
#
#   PROJECT=p REGION=us-west4 BUCKET=b docs/cloud/project.sh
set -euo pipefail
for name in PROJECT REGION BUCKET; do
  [ -n "${!name:-}" ] || { echo "project.sh: set $name (docs/cloud_tpu.md)" >&2; exit 2; }
done
account="p10k-jax@$PROJECT.iam.gserviceaccount.com"

gcloud services enable tpu.googleapis.com storage.googleapis.com iam.googleapis.com --project="$PROJECT"
if ! gcloud storage buckets describe "gs://$BUCKET" --project="$PROJECT" >/dev/null 2>&1; then
  gcloud storage buckets create "gs://$BUCKET" --project="$PROJECT" --location="$REGION" \
    --uniform-bucket-level-access --public-access-prevention
fi
if ! gcloud iam service-accounts describe "$account" --project="$PROJECT" >/dev/null 2>&1; then
  gcloud iam service-accounts create p10k-jax --project="$PROJECT" --display-name="Runs of p10k_jax"
fi
for role in roles/storage.objectUser roles/storage.legacyBucketReader; do
  gcloud storage buckets add-iam-policy-binding "gs://$BUCKET" --project="$PROJECT" \
    --member="serviceAccount:$account" --role="$role" >/dev/null
done
echo "SERVICE_ACCOUNT=$account"
