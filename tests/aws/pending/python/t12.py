from drive import *
a=A(polls=1); d=box(a,AWS_UPLOAD='s3')
import subprocess
r=run(d,*BUILD,'--cloud-image-name','killed',env={'BUILD_IMAGE_FAILPOINT':'before:13'}); print(r.returncode,a.owned()['uploads'])
rid=json.loads(run(d,'runs','--json').stdout)['runs'][0]['id']; r=run(d,'resume',rid); o=a.owned(); print(r.returncode,o['uploads'],len(o['images']))
