from drive import *
for rules in ([dict(operation='DescribeImages',nth=4,count=2,code='InvalidAMIID.NotFound')],[dict(operation='DescribeSnapshots',nth=1,count=2,code='InvalidSnapshot.NotFound')],[dict(operation='DescribeSnapshots',nth=2,count=2,code='InvalidSnapshot.NotFound')],
  [dict(operation='ModifyImageAttribute',nth=2,count=2,code='InvalidAMIID.NotFound')],[dict(operation='EnableImageDeprecation',nth=2,count=2,code='InvalidAMIID.NotFound')],[dict(operation='CopyImage',nth=2,count=1,code='InvalidAMIID.NotFound')],
  [dict(operation='RegisterImage',nth=2,count=2,code='InvalidSnapshot.NotFound')],[dict(operation='CreateTags',nth=2,count=2,code='InvalidAMIID.NotFound')],
  [dict(operation='PutSnapshotBlock',nth=2,count=1,code='ResourceNotFoundException',status=404,reason='SNAPSHOT_NOT_FOUND')],
  [dict(operation='PutSnapshotBlock',nth=2,count=1,code='ValidationException',status=400,reason='INVALID_BLOCK')],
  [dict(operation='DescribeSnapshots',nth=3,expire=True)],[dict(operation='PutSnapshotBlock',nth=3,cause='skewed')],[dict(operation='DescribeImages',cause='skewed',nth=1)],[dict(operation='HeadBucket',cause='skewed',nth=1)]):
    for way in ('ebs','s3'):
        a=A(polls=1); d=box(a,AWS_UPLOAD=way,AWS_IMAGE_SHARE_ACCOUNT_IDS="['123456789012']",AWS_IMAGE_COPY_REGIONS='[eu-west-1]',AWS_DEPRECATE_AFTER='30d'); a.c('POST','rules',rules=rules)
        r=run(d,*BUILD,'--cloud-image-name','consistency'); st=control('GET',f'rules?account={a.id}')[0]['struck']
        if st==0: continue
        o=a.owned(); print(way,rules,r.returncode,round(r.t,1),[len(o[k]) for k in ('images','snapshots','objects')],'struck',st, [l for l in r.stderr.splitlines() if l.startswith(('error','  because'))], [s['id'][-4:] for s in o['snapshots']])
print(control('GET','mismatches'))
