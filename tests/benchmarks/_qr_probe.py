import time, numpy as np, torch, jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
def chol2(c):
    for _ in range(2):
        r=jnp.linalg.cholesky(c.mT@c,upper=True,symmetrize_input=False); c=jax.lax.linalg.triangular_solve(r,c,left_side=False,lower=False)
    return c
def tchol2(c):
    for _ in range(2):
        r=torch.linalg.cholesky(c.mT@c,upper=True); c=torch.linalg.solve_triangular(r,c,upper=True,left=False)
    return c
def tm(f,c,wait):
    f(c); wait(f(c)); t=time.perf_counter()
    for _ in range(20): o=f(c)
    wait(o); return (time.perf_counter()-t)/20*1e6
for m,k in ((64,64),(256,256),(1536,8),(2048,8)):
    a=np.linalg.qr(np.random.randn(m,k))[0]+.05*np.random.randn(m,k)/m**.5
    c=jnp.asarray(a); tc=torch.as_tensor(a,device="cuda"); w=lambda o: torch.cuda.synchronize()
    print(m,k,"jax qr",tm(jax.jit(lambda c:jnp.linalg.qr(c)[0]),c,lambda o:o.block_until_ready()),"chol2",tm(jax.jit(chol2),c,lambda o:o.block_until_ready()),"torch qr",tm(lambda c:torch.linalg.qr(c)[0],tc,w),"chol2",tm(tchol2,tc,w),flush=True)
