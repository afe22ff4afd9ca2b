import json,os,subprocess,sys,tempfile,urllib.request,time
D=json.load(open('/tmp/awsfront/desc.json')); U=D['url']
BIN=os.environ.get('BIN','/tmp/awsfront/bi-aws'); PLUG=os.environ.get('PLUG','/tmp/awsfront/plug')
def control(m,p,**g):
    r=urllib.request.Request(f'{U}/_front/{p}',method=m,data=json.dumps(g).encode()); return json.loads(urllib.request.urlopen(r).read())
class A:
    def __init__(s,**g): s.m=control('POST','accounts',**g); s.id=s.m['account']; s.bucket=s.m['bucket']
    def c(s,m,p,**g): return control(m,p,account=s.id,**g)
    def owned(s): return s.c('GET','objects')
    def reqs(s): return s.c('GET','requests')
    def config(s,**more):
        k=s.m['keys']['builder']
        rows=dict(AWS_ACCESS_KEY_ID=k['id'],AWS_SECRET_ACCESS_KEY=k['secret'],AWS_REGION='us-east-1',AWS_ENDPOINT_URL=U,AWS_CREATE_IMAGE_RETRY_DELAY=1,AWS_IMPORT_SNAPSHOT_TASK_RETRY_DELAY=1,AWS_BUCKET=s.bucket)
        rows.update(more); return ''.join(f'{k}: {v}\n' for k,v in rows.items())
def box(a,mib=16,data=3,**more):
    d=tempfile.mkdtemp(prefix='box-',dir='/tmp/awsfront'); os.chmod(d,0o700)
    with open(d+'/disk.raw','wb') as f:
        b=os.urandom(data<<20); b=b[:510]+b'\x55\xaa'+b[512:]; f.write(b); f.truncate(mib<<20)
    open(d+'/config.yml','w').write(a.config(**more)); return d
def run(d,*args,env={}):
    e={'PATH':os.environ['PATH'],'HOME':d,'XDG_STATE_HOME':d+'/state','BUILD_IMAGE_PROVIDER_PATH':PLUG,'F5_ACCEL':'tcg','F5_OUTPUT_JSON_FILE':d+'/result.json',**env}
    t=time.time(); r=subprocess.run([BIN,*args],cwd=d,env=e,capture_output=True,text=True,stdin=subprocess.DEVNULL); r.t=time.time()-t; return r
BUILD=['--disk','disk.raw','-c','config.yml','-p','aws']
