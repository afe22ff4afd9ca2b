// ali-oss against the emulator: `node ali_oss_checks.js URL V1|V4 FOLDER`. Found through NODE_PATH.
'use strict';
const fs = require('fs');
const http = require('http');
const https = require('https');
const path = require('path');
const OSS = require('ali-oss');

const [url, version, folder] = process.argv.slice(2);
const tls = url.startsWith('https:');
const sdk = `ali-oss ${version}${tls ? ' TLS' : ''}`;
const region = 'oss-cn-hangzhou';

function note(operation, check, error) {
  console.log(JSON.stringify({ sdk, operation, check, error }));
}

// The call succeeds with this result.
async function does(operation, check, call, want) {
  try {
    const got = await call();
    const same = want === undefined || JSON.stringify(got) === JSON.stringify(want);
    note(operation, check, same ? null : `got ${String(JSON.stringify(got)).slice(0, 300)}`);
    return got;
  } catch (error) {
    note(operation, check, `${error.code || error.name}: ${error.message}`);
    return undefined;
  }
}

// The call is refused with this code.
async function refused(operation, check, call, code) {
  try {
    note(operation, check, `not refused, but ${String(JSON.stringify(await call())).slice(0, 300)}`);
  } catch (error) {
    const found = error.code || error.name;
    note(operation, check, found === code ? null : `${found} instead of ${code}: ${error.message}`);
  }
}

// Replaces the emulator's fault rules.
function faults(...rules) {
  const body = JSON.stringify(rules);
  return new Promise((resolve, reject) => {
    const request = (tls ? https : http).request(`${url}/_emulator/faults`, { method: 'PUT', headers: { 'content-length': Buffer.byteLength(body) } },
      answer => { answer.resume(); answer.on('end', resolve); });
    request.on('error', reject);
    request.end(body);
  });
}

function blob(length, seed) {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index < length; index += 1) bytes[index] = ((index % 4016) * 7 + seed) % 251;
  return bytes;
}

function client(more) {
  return new OSS({
    endpoint: url, region, bucket: 'demo', accessKeyId: 'emulator-id', accessKeySecret: 'emulator-secret',
    authorizationV4: version === 'V4', retryMax: 0, ...more,
  });
}

const demo = client();
const body = blob(300000, 1);
const keys = ['plain', 'dir/a b+c', 'ключ/钥匙 %41', "tilde~!'()*"];

async function buckets() {
  await does('PutBucket', 'makes a bucket', async () => (await demo.putBucket('fresh-bucket')).res.status, 200);
  // Without a bucket, the library names the server `.oss-cn-hangzhou.aliyuncs.com`, which no TLS server accepts.
  if (!tls) await does('ListBuckets', 'names it', async () => (await demo.listBuckets()).buckets.map(b => b.name), ['demo', 'fresh-bucket', 'other-region']);
  await does('GetBucketInfo', 'location', async () => (await demo.getBucketInfo('demo')).bucket.Location, region);
  await does('GetBucketLocation', 'region', async () => (await demo.getBucketLocation('demo')).location, region);
  await does('GetBucketStat', 'counts', async () => (await demo.getBucketStat('fresh-bucket')).stat.ObjectCount, '0');
  await refused('GetBucketInfo', 'no bucket', () => demo.getBucketInfo('no-such-bucket'), 'NoSuchBucket');
  await refused('GetBucketStat', 'no bucket', () => demo.getBucketStat('no-such-bucket'), 'NoSuchBucket');
  await does('DeleteBucket', 'an empty one', async () => (await demo.deleteBucket('fresh-bucket')).res.status, 204);
  await refused('DeleteBucket', 'gone', () => demo.deleteBucket('fresh-bucket'), 'NoSuchBucket');
  await refused('GetBucketEncryption', 'none', () => demo.getBucketEncryption('demo'), 'NoSuchServerSideEncryptionRule');
  await does('PutBucketEncryption', 'AES256', async () => (await demo.putBucketEncryption('demo', { SSEAlgorithm: 'AES256' })).status, 200);
  await does('GetBucketEncryption', 'tells it', async () => (await demo.getBucketEncryption('demo')).encryption.SSEAlgorithm, 'AES256');
  await does('DeleteBucketEncryption', 'takes it away', async () => (await demo.deleteBucketEncryption('demo')).status, 204);
}

async function objects() {
  for (const key of keys) {
    await does('PutObject', `key ${key}`, async () => (await demo.put(key, body)).res.status, 200);
    await does('GetObject', `key ${key}`, async () => (await demo.get(key)).content.equals(body), true);
  }
  await does('PutObject', 'metadata', async () => (await demo.put('meta', body, { meta: { who: 'me' }, mime: 'text/x' })).res.status, 200);
  await does('HeadObject', 'metadata', async () => { const h = await demo.head('meta'); return [h.meta.who, h.res.headers['content-type']]; }, ['me', 'text/x']);
  await does('GetObjectMeta', 'length', async () => (await demo.getObjectMeta('meta')).res.headers['content-length'], '300000');
  await does('PutObject', 'stream', async () => (await demo.putStream('stream', fs.createReadStream(path.join(folder, 'ali.bin')))).res.status, 200);
  await does('GetObject', 'range', async () => (await demo.get('meta', { headers: { Range: 'bytes=0-9' } })).content.equals(body.subarray(0, 10)), true);
  await does('GetObject', 'response-content-type', async () => (await demo.get('meta', { subres: { 'response-content-type': 'a/b' } })).res.headers['content-type'], 'a/b');
  await refused('GetObject', 'missing', () => demo.get('no'), 'NoSuchKey');
  await refused('HeadObject', 'missing', () => demo.head('no'), 'NoSuchKey');
  await refused('PutObject', 'forbid overwrite', () => demo.put('meta', body, { headers: { 'x-oss-forbid-overwrite': 'true' } }), 'FileAlreadyExists');
  await refused('PutObject', 'no bucket', () => client({ bucket: 'no-such-bucket' }).put('k', body), 'NoSuchBucket');
  await refused('PutObject', 'wrong Content-MD5', () => demo.put('k', body, { headers: { 'Content-MD5': '1B2M2Y8AsgTpgAmY7PhCfg==' } }), 'InvalidDigest');
  const etag = (await demo.head('meta')).res.headers.etag;
  await does('GetObject', 'If-Match', async () => (await demo.get('meta', { headers: { 'If-Match': etag } })).res.status, 200);
  await refused('GetObject', 'If-Match', () => demo.get('meta', { headers: { 'If-Match': 'x' } }), 'PreconditionFailed');
  await does('HeadObject', 'If-None-Match', async () => (await demo.head('meta', { headers: { 'If-None-Match': etag } })).status, 304);
  await refused('GetObject', 'traffic limit too low', () => demo.get('meta', { headers: { 'x-oss-traffic-limit': '1' } }), 'InvalidArgument');
  await does('DeleteObject', 'deletes', async () => (await demo.delete('stream')).res.status, 204);
  for (const [name, list] of [['ListObjects', q => demo.list(q)], ['ListObjectsV2', q => demo.listV2(q)]]) {
    await does(name, 'by prefix', async () => (await list({ prefix: 'dir/' })).objects.map(o => o.name), ['dir/a b+c']);
    await does(name, 'folds folders', async () => (await list({ prefix: 'd', delimiter: '/' })).prefixes, ['dir/']);
    await does(name, 'in pages', async () => {
      const names = [];
      let more = {};
      for (;;) {
        const page = await list({ 'max-keys': 1, ...more });
        names.push(...page.objects.map(o => o.name));
        if (!page.isTruncated) return names.length;
        more = name === 'ListObjects' ? { marker: page.nextMarker } : { 'continuation-token': page.nextContinuationToken };
      }
    }, 5);
  }
  await does('DeleteMultipleObjects', 'names all', async () => (await demo.deleteMulti([...keys, 'missing'])).deleted.map(d => d.Key).sort(), [...keys, 'missing'].sort());
  await refused('DeleteMultipleObjects', 'no bucket', () => client({ bucket: 'no-such-bucket' }).deleteMulti(['k']), 'NoSuchBucket');
}

async function copies() {
  await demo.put('src/a b', body, { meta: { m: '1' } });
  await does('CopyObject', 'takes all along', async () => { await demo.copy('dst', 'src/a b'); return (await demo.head('dst')).meta.m; }, '1');
  await does('CopyObject', 'replaces metadata', async () => { await demo.putMeta('dst', { m: '2' }); return (await demo.head('dst')).meta.m; }, '2');
  await refused('CopyObject', 'missing source', () => demo.copy('d', 'no'), 'NoSuchKey');
  await does('UploadPartCopy', 'multipartUploadCopy', async () => {
    await demo.multipartUploadCopy('joined', { sourceKey: 'src/a b', sourceBucketName: 'demo' }, { partSize: 102400 });
    return (await demo.get('joined')).content.equals(body);
  }, true);
  const { uploadId } = await demo.initMultipartUpload('x');
  await refused('UploadPartCopy', 'missing source', () => demo.uploadPartCopy('x', uploadId, 1, null, { sourceKey: 'no', sourceBucketName: 'demo' }), 'NoSuchKey');
  await demo.abortMultipartUpload('x', uploadId);
}

async function multipart() {
  const file = path.join(folder, 'ali.bin');
  const { uploadId } = await does('InitiateMultipartUpload', 'starts', () => demo.initMultipartUpload('big'));
  const sent = [];
  for (const number of [2, 1]) {
    sent[number] = await does('UploadPart', `part ${number}`, () => demo.uploadPart('big', uploadId, number, file, (number - 1) * 150000, number * 150000));
  }
  await refused('UploadPart', 'part 10001', () => demo.uploadPart('big', uploadId, 10001, file, 0, 10), 'InvalidArgument');
  await refused('UploadPart', 'no upload', () => demo.uploadPart('big', 'none', 1, file, 0, 10), 'NoSuchUpload');
  await does('ListParts', 'numbers', async () => (await demo.listParts('big', uploadId)).parts.map(p => p.PartNumber), ['1', '2']);
  await refused('ListParts', 'no upload', () => demo.listParts('big', 'none'), 'NoSuchUpload');
  await does('ListMultipartUploads', 'names it', async () => (await demo.listUploads({ 'max-uploads': 10 })).uploads.map(u => u.name), ['big']);
  await refused('CompleteMultipartUpload', 'wrong ETag', () => demo.completeMultipartUpload('big', uploadId, [{ number: 1, etag: '"0"' }]), 'InvalidPart');
  await refused('CompleteMultipartUpload', 'no upload', () => demo.completeMultipartUpload('big', 'none', [{ number: 1, etag: sent[1].etag }]), 'NoSuchUpload');
  await does('CompleteMultipartUpload', 'joins', async () => {
    await demo.completeMultipartUpload('big', uploadId, [1, 2].map(number => ({ number, etag: sent[number].etag })));
    return (await demo.get('big')).content.equals(body);
  }, true);
  const gone = (await demo.initMultipartUpload('gone')).uploadId;
  await does('AbortMultipartUpload', 'ends it', async () => (await demo.abortMultipartUpload('gone', gone)).res.status, 204);
  await refused('AbortMultipartUpload', 'gone', () => demo.abortMultipartUpload('gone', gone), 'NoSuchUpload');
  let checkpoint;
  await faults({ operation: 'UploadPart', part_number: 3, count: 1, action: { status: 400, code: 'Ordered' } });
  await refused('multipartUpload', 'broken off', () => demo.multipartUpload('managed', file, {
    partSize: 102400, parallel: 1, progress: async (_, point) => { checkpoint = point; },
  }), 'Ordered');
  await does('multipartUpload', 'goes on', async () => {
    await demo.multipartUpload('managed', file, { partSize: 102400, checkpoint });
    return (await demo.get('managed')).content.equals(body);
  }, true);
}

async function identities() {
  const call = (who, key = 'meta') => async () => (await who.get(key)).content.equals(body);
  await refused('signature', 'wrong secret', call(client({ accessKeySecret: 'wrong' })), 'SignatureDoesNotMatch');
  await refused('signature', 'unknown key', call(client({ accessKeyId: 'nobody' })), 'InvalidAccessKeyId');
  const token = { accessKeyId: 'sts-id', accessKeySecret: 'sts-secret' };
  await does('signature', 'token', call(client({ ...token, stsToken: 'sts-token' })), true);
  await refused('signature', 'wrong token', call(client({ ...token, stsToken: 'x' })), 'InvalidSecurityToken');
  await faults({ operation: 'GetObject', count: 1, action: { skew_seconds: 1000 } });
  await refused('signature', 'clock 1000 s off', call(demo), 'RequestTimeTooSkewed');
  await faults({ operation: 'GetObject', count: 1, action: 'expire_token' });
  await refused('signature', 'token expired', call(demo), 'SecurityTokenExpired');
  await faults();
  const sts = new OSS.STS({ accessKeyId: 'emulator-id', accessKeySecret: 'emulator-secret', endpoint: url });
  const role = 'acs:ram::1000000000000001:role/emulator-role';
  const got = await does('AssumeRole', 'gives keys', async () => (await sts.assumeRole(role, undefined, 900, 'check')).credentials);
  await does('AssumeRole', 'the keys call OSS', call(client({ accessKeyId: got.AccessKeyId, accessKeySecret: got.AccessKeySecret, stsToken: got.SecurityToken })), true);
  await refused('AssumeRole', 'missing role', () => sts.assumeRole(`${role}x`, undefined, 900, 'check'), 'EntityNotExist.Role');
}

(async () => {
  fs.writeFileSync(path.join(folder, 'ali.bin'), body);
  for (const part of [buckets, objects, copies, multipart, identities]) await part();
})().catch(error => {
  console.error(error);
  process.exitCode = 1;
});
