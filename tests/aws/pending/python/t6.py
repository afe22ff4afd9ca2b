from drive import *
ALL=["ec2:*","ebs:*","s3:*","sts:*","iam:*","kms:*","servicequotas:*"]
def without(x): return {'policy':{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":ALL,"Resource":"*"},{"Effect":"Deny","Action":[x],"Resource":"*"}]}}
cases=[('well',{},{},0,[]),('wrong secret',{},{'AWS_SECRET_ACCESS_KEY':'wrong'},6,[]),('unknown',{},{'AWS_ACCESS_KEY_ID':'AKIAIOSFODNN7EXAMPLE'},6,['access key']),
('region',{},{'AWS_REGION':'af-south-1'},6,['af-south-1']),('register',without('ec2:RegisterImage'),{},6,['RegisterImage']),('share',without('ec2:ModifyImageAttribute'),{'AWS_IMAGE_SHARE_ACCOUNT_IDS':"['123456789012']"},6,['ModifyImageAttribute']),
('import',without('ec2:ImportSnapshot'),{'AWS_UPLOAD':'s3'},6,['ImportSnapshot']),('role',{'vmimport':False},{'AWS_UPLOAD':'s3'},6,['vmimport']),('bucket',{},{'AWS_UPLOAD':'s3','AWS_BUCKET':'no-such-bucket-here'},6,['no-such-bucket']),
('kms',{},{'AWS_KMS_KEY_ID':'arn:aws:kms:us-east-1:123456789012:key/00000000-0000-4000-8000-000000000000'},6,['key']),('copyregion',{},{'AWS_IMAGE_COPY_REGIONS':'[af-south-1]'},6,['af-south-1']),('public',{'block_public':True},{'AWS_IMAGE_VISIBILITY':'public'},6,['public'])]
for n,g,s,code,texts in cases:
    a=A(**g); d=box(a,**s); r=run(d,'plan','--check',*BUILD); sh=r.stdout+r.stderr
    made=[x for x in a.reqs() if x['status']<300 and x['operation'] and x['operation'].startswith(('Start','Register','Import','Put','Create'))]
    ok=r.returncode==code and all(t in sh for t in texts) and not made
    print(n,'ok' if ok else 'WRONG',r.returncode,round(r.t,1),made); 
    if not ok: print(sh[-900:]); print([(x['service'],x['operation'],x['code']) for x in a.reqs()])
    m=control('GET',f'mismatches?account={a.id}')
    if m: print(m)
# attributes
a=A(); key=a.m['kms_keys']['us-east-1']
d=box(a,AWS_BOOT_MODE='uefi',AWS_TPM_SUPPORT='v2.0',AWS_IMDS_SUPPORT='v2.0',AWS_ROOT_DEVICE_NAME='/dev/sda1',AWS_VOLUME_TYPE='gp3',AWS_VOLUME_IOPS='4000',AWS_VOLUME_SIZE='3GiB',AWS_DELETE_ON_TERMINATION='no',AWS_KMS_KEY_ID=key,AWS_DEPRECATE_AFTER='30d')
r=run(d,*BUILD,'--cloud-image-name','with-attributes','--image-tags','[{team: images}]'); print('attr',r.returncode,r.stderr[-800:] if r.returncode else a.owned()['images'])
# copies with keys
a=A(polls=1); d=box(a,AWS_IMAGE_COPY_REGIONS='[eu-west-1, us-east-2]',AWS_IMAGE_COPY_KMS_KEY_IDS="{us-east-2: '%s'}"%a.m['kms_keys']['us-east-2'],AWS_IMAGE_SHARE_ORGANIZATION_ARNS="['arn:aws:organizations::123456789012:organization/o-0123456789']")
r=run(d,*BUILD,'--cloud-image-name','copied','--image-tags','[{team: images}]'); print('copies',r.returncode,r.stderr[-800:] if r.returncode else [(i['region'],i['permissions'],i['tags'].get('team'),i['BlockDeviceMappings'][0]['Ebs']['Encrypted']) for i in a.owned()['images']],[s['tags'].get('team') for s in a.owned()['snapshots']])
# at once
for ife in ('fail','replace'):
    a=A(polls=1); ds=[box(a,AWS_IF_EXISTS=ife) for _ in range(3)]
    if ife=='replace': a.c('POST','images',name='at-once',tags={'of':'others'})
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(3) as ex: rs=list(ex.map(lambda d: run(d,*BUILD,'--cloud-image-name','at-once'),ds))
    o=a.owned(); print('at-once',ife,[r.returncode for r in rs],len(o['images']),len(o['snapshots']), [i['name'] for i in o['images']])
    for r in rs:
        if r.returncode: print('   ',[l for l in r.stderr.splitlines() if l.startswith(('error','  hint','left','  -'))])
# interrupted replacement
a=A(polls=1); a.c('POST','images',name='replaced',tags={'of':'others'},users=['123456789012']); b4=a.owned()['images'][0]
d=box(a,AWS_IF_EXISTS='replace'); a.c('POST','rules',rules=[dict(operation='RegisterImage',nth=2,count=1,code='InvalidParameterValue',status=400)])
r=run(d,*BUILD,'--cloud-image-name','replaced'); o=a.owned(); print('interrupted',r.returncode,len(o['images']),len(o['snapshots'])); af=o['images'][0]
for n in ('name','tags','permissions','BlockDeviceMappings','RootDeviceName'): 
    if af.get(n)!=b4.get(n): print(n,af.get(n),b4.get(n))
print(r.stderr[-500:])
