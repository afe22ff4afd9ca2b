from drive import *
from concurrent.futures import ThreadPoolExecutor
SET=dict(AWS_IMAGE_SHARE_ACCOUNT_IDS="['123456789012']",AWS_IMAGE_COPY_REGIONS='[eu-west-1]',AWS_DEPRECATE_AFTER='30d')
SLOW={'ec2':("RequestLimitExceeded",503),'s3':("SlowDown",503),'ebs':("RequestThrottledException",400)}
def faults(s,o):
    b=dict(service=s,operation=o); sl=SLOW.get(s,("ThrottlingException",400))
    return [("once",[dict(b,nth=1,code="InternalError",status=500)],True),("throttled",[dict(b,nth=1,count=3,code=sl[0],status=sl[1])],True),
      ("after",[dict(b,nth=1,code="InternalError",status=500,after=True)],True),("denied",[dict(b,cause="denied")],False),("always500",[dict(b,code="InternalError",status=500)],False)]
pts=[]
for way in ('ebs','s3'):
    a=A(polls=1); d=box(a,AWS_UPLOAD=way,**SET); r=run(d,*BUILD,'--cloud-image-name','first'); assert r.returncode==0,r.stderr
    for so in sorted({(x['service'],x['operation']) for x in a.reqs()}):
        for f in faults(*so): pts.append((way,*so,*f))
print(len(pts))
def one(p):
    way,s,o,what,rules,must=p
    a=A(polls=1); d=box(a,AWS_UPLOAD=way,AWS_CREATE_IMAGE_RETRY_COUNT=20,**SET); a.c('POST','rules',rules=rules)
    r=run(d,*BUILD,'--cloud-image-name','disturbed'); struck=[x['struck'] for x in control('GET',f'rules?account={a.id}')]; a.c('POST','rules',rules=[])
    ow=a.owned(); n=[len(ow[k]) for k in ('images','snapshots','objects','uploads')]
    exp=[2,2,0,0] if r.returncode==0 else [0]*4
    bad=[]
    if n!=exp and 'left behind' not in r.stderr: bad.append(f'{n}')
    if must and r.returncode: bad.append('must succeed')
    if r.returncode and sum(l.startswith('error: ') for l in r.stderr.splitlines())!=1: bad.append('errors')
    if struck==[0]: bad.append('not struck')
    mm=control('GET',f'mismatches?account={a.id}')
    if mm: bad.append(str(mm)[:300])
    err=next((l for l in r.stderr.splitlines() if l.startswith('error')),'')
    print(('VIOLATION ' if bad else 'ok ')+f'{way} {o} {what} rc={r.returncode} {r.t:.1f}s {bad} {err[:230]}',flush=True)
    if bad: open('/tmp/awsfront/viol.txt','a').write(f'== {way} {o} {what} {bad}\n{r.stderr}\n')
    import shutil; shutil.rmtree(d)
step=int(sys.argv[1]) if len(sys.argv)>1 else 7
with ThreadPoolExecutor(2) as ex: list(ex.map(one,pts[::step]))
