#!/usr/bin/env python3
"""Generates the golden vectors next to this file. Each says in "made_by" which library produced which field.

Needs the Python packages numpy, scipy and mpmath, in the versions named in "made_by" for the same bits; `generate.py DIRECTORY`
writes elsewhere. Reference values of E1, E2, the interval and the Bayes factors come from mpmath at 60 digits, evaluated from
the *probability mass functions* (not from the simplified formula that an implementation uses), and are cross-checked with scipy.
"""
import json, math, os, sys
import mpmath as mp
import numpy as np, scipy
from scipy import stats, special, optimize
HERE = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)); mp.mp.dps = 60; VER = f'numpy {np.__version__}, scipy {scipy.__version__}, mpmath {mp.__version__}'
def save(name, obj):
    def enc(o):
        if isinstance(o, mp.mpf): return float(o)
        if isinstance(o, (np.floating,)): return float(o)
        if isinstance(o, (np.integer,)): return int(o)
        if isinstance(o, (np.bool_,)): return bool(o)
        if isinstance(o, np.ndarray): return o.tolist()
        raise TypeError(type(o))
    with open(os.path.join(HERE, name), 'w') as out: out.write(json.dumps(obj, default=enc, separators=(',', ':')) + '\n')
    print(name, os.path.getsize(os.path.join(HERE, name)))

# ------------------------------------------------------------------ Kayenta's rule, rebuilt, and the closed form of the need
def shift_z(mu, x, y):
    nx, ny = len(x), len(y); r = stats.rankdata(np.concatenate([x - mu, y])); d = r[:nx].sum() - nx * (nx + 1) / 2 - nx * ny / 2
    c = np.unique(r, return_counts=True)[1].astype(float); N = nx + ny
    s = math.sqrt(max(nx * ny / 12 * ((N + 1) - (c ** 3 - c).sum() / (N * (N - 1))), 0.))
    return (d - .5 * np.sign(d)) / s if s > 0 else 0.

def zeroin(f, lo, hi, flo, fhi, tol=1e-4):
    """Brent's root finder with the absolute tolerance used by R's uniroot default (and by Kayenta)."""
    eps = np.finfo(float).eps; a, b, fa, fb = lo, hi, flo, fhi; c, fc = a, fa
    if fa == 0: return a
    if fb == 0: return b
    for _ in range(1001):
        prev = b - a
        if abs(fc) < abs(fb): a, b, c = b, c, b; fa, fb, fc = fb, fc, fb
        act = 2 * eps * abs(b) + tol / 2; step = (c - b) / 2
        if abs(step) <= act or fb == 0: return b
        if abs(prev) >= act and abs(fa) > abs(fb):
            cb = c - b
            if a == c: t1 = fb / fa; p = cb * t1; q = 1 - t1
            else:
                q, t1, t2 = fa / fc, fb / fc, fb / fa
                p = t2 * (cb * q * (q - t1) - (b - a) * (t1 - 1)); q = (q - 1) * (t1 - 1) * (t2 - 1)
            p, q = (p, -q) if p > 0 else (-p, q)
            if p < .75 * cb * q - abs(act * q) / 2 and p < abs(prev * q / 2): step = p / q
        if abs(step) < act: step = act if step > 0 else -act
        a, fa = b, fb; b += step; fb = f(b)
        if (fb > 0 and fc > 0) or (fb < 0 and fc < 0): c, fc = a, fa
    return b

def kayenta_high(x, y, tol=.25, conf=.98, allowed=1.0):
    x = x[~np.isnan(x)]; y = y[~np.isnan(y)]
    if not len(x) or not len(y) or len(np.unique(np.concatenate([x, y]))) == 1: return False
    if len(x) == len(y) and np.array_equal(np.sort(x), np.sort(y)): return False
    lo, hi = x.min() - y.max(), x.max() - y.min(); zl, zh = shift_z(lo, x, y), shift_z(hi, x, y); q = -stats.norm.ppf((1 - conf) / 2)
    if zl - q <= 0: low = lo
    elif zh - q >= 0: low = hi
    else: low = zeroin(lambda u: shift_z(u, x, y) - q, lo, hi, zl - q, zh - q)
    if low <= 0: return False
    est = zeroin(lambda u: shift_z(u, x, y), lo, hi, zl, zh); mx, my = x.mean(), y.mean()
    return bool(low > tol * abs(est) and (mx == 0 or my == 0 or mx / my >= allowed))

def need(p, q, rho1, rhos, alpha, c=1.5, z=1.2816, phi=1.):
    """Canary requests so that, if the true ratio is rho1, ratio rhos is excluded at level alpha with prob Phi(z). q = baseline/canary traffic."""
    A = math.log(rho1 / rhos) - math.log((rho1 + q) / (rhos + q)); B = -math.log((rho1 + q) / (rhos + q))
    g = p * (rho1 * A + q * B); v = p * (rho1 * A * A + q * B * B) * phi; L = phi * (math.log(1 / alpha) + c)
    return ((z * math.sqrt(v) + math.sqrt(z * z * v + 4 * g * L)) / (2 * g)) ** 2
# ------------------------------------------------------------------ shared definitions
def grid(K=12, lo=.1, hi=4., mu=.7, s=1.):
    d = [lo * (hi / lo) ** (k / (K - 1)) for k in range(K)]; w = [math.exp(-.5 * (math.log(x / mu) / s) ** 2) for x in d]; t = math.fsum(w)
    return d, [x / t for x in w]
def cs_grid(J=64, dmax=4., beta=4.):
    u = [j / J for j in range(-J, J + 1)]; d = [dmax * math.sinh(beta * x) / math.sinh(beta) for x in u]; w = [math.cosh(beta * x) * math.exp(-.5 * y * y) for x, y in zip(u, d)]; t = math.fsum(w)
    return d, [x / t for x in w]
def lbinom(k, n, p): return mp.log(mp.binomial(n, k)) + k * mp.log(p) + (n - k) * mp.log(1 - p)          # mpmath log pmf
def lbinom_frac(k, n, p): return k * mp.log(p) + (n - k) * mp.log(1 - p)                                   # same without the constant (cancels)

def e1_path(ticks, rho0, sign, phi, pi, d, w):
    """log E_t by brute force: sum over restart times j and grid points k of pi_j w_k prod_{t>=j} LR, each LR a ratio of binomial pmfs."""
    out = []; comp = {}; cash = mp.mpf(1)
    for t, (a, n, b, m) in enumerate(ticks):
        p = mp.mpf(pi[t]) if t < len(pi) else mp.mpf(0)
        if p > 0:
            cash -= p
            for k in range(len(d)): comp[(t, k)] = mp.log(p) + mp.log(mp.mpf(w[k]))
        lr = []
        for k in range(len(d)):
            if m <= 0 or n <= 0: lr.append(mp.mpf(0)); continue
            rk = mp.mpf(rho0) * mp.exp(sign * mp.mpf(d[k])); tk = rk * n / (rk * n + m); t0 = mp.mpf(rho0) * n / (mp.mpf(rho0) * n + m); s = a + b
            f = lbinom if float(a).is_integer() and float(b).is_integer() and s < 10**6 else lbinom_frac
            lr.append((f(a, s, tk) - f(a, s, t0)) / mp.mpf(phi))
        for key in comp: comp[key] += lr[key[1]]
        tot = mp.fsum(mp.exp(v) for v in comp.values()) + cash; out.append(mp.log(tot))
    return out
def e1_scipy(ticks, rho0, sign, phi, pi, d, w):
    d = np.array(d); L = np.full(len(d), -np.inf); cash = 1.; out = []
    for t, (a, n, b, m) in enumerate(ticks):
        if t < len(pi) and pi[t] > 0: L = np.logaddexp(L, np.log(w) + math.log(pi[t])); cash -= pi[t]
        if m > 0 and n > 0:
            rk = rho0 * np.exp(sign * d); L = L + (stats.binom.logpmf(a, a + b, rk * n / (rk * n + m)) - stats.binom.logpmf(a, a + b, rho0 * n / (rho0 * n + m))) / phi
        out.append(special.logsumexp(np.append(L, math.log(cash) if cash > 0 else -np.inf)))
    return out

def ticks_of(seed, T, splits, p, rho, rps=200, tick=10):
    rng = np.random.default_rng(seed); o = []
    for t in range(T):
        s = splits[t * len(splits) // T]; n = int(rng.poisson(rps * tick * s)); m = int(rng.poisson(rps * tick * (1 - s))); o.append([int(rng.binomial(n, min(1, p * rho))), n, int(rng.binomial(m, p)), m])
    return o
def sched(T, p0, starts, ps, pm, h, every):
    pi = [0.] * T; pi[0] = p0
    for s in starts: pi[s] += ps / len(starts)
    j = 1
    while j * every < T: pi[j * every] += pm * h * (1 - h) ** (j - 1); j += 1
    return pi

def vec_e1():
    d, w = grid(); cases = []
    def add(name, ticks, rho0=1., sign=1, phi=1., pi=None, note=''):
        pi = pi or ([1.] + [0.] * (len(ticks) - 1)); ref = e1_path(ticks, rho0, sign, phi, pi, d, w)
        intish = all(float(x).is_integer() for r in ticks for x in r)
        if intish:
            alt = e1_scipy(ticks, rho0, sign, phi, pi, d, w); err = max(abs(float(x) - y) / max(1, abs(y)) for x, y in zip(ref, alt)); assert err < 2e-8, (name, err)
        cases.append(dict(name=name, note=note, rho0=rho0, sign=sign, phi=phi, pi=pi, ticks_a_n_b_m=ticks, log_e=[float(x) for x in ref]))
    add('iid_equal', ticks_of(1, 30, [.05, .25], .003, 1.)); add('iid_3x_one_percent', ticks_of(2, 40, [.01], .003, 3.))
    add('split_change_1_5_25_50', ticks_of(3, 40, [.01, .05, .25, .5], .003, 1.5)); add('margin_1.1', ticks_of(4, 30, [.05, .25], .003, 1.5), rho0=1.1)
    add('restart_schedule', ticks_of(5, 36, [.01, .05, .25], .003, 2.), pi=sched(36, .7, [12, 24], .15, .15, 1 / 60, 6))
    add('overdispersed_phi_2.5', ticks_of(6, 30, [.25], .003, 3.), phi=2.5); add('safety_side_margin_1.4', ticks_of(7, 40, [.25], .003, 1.), rho0=1.4, sign=-1)
    add('edge_cases', [[0, 0, 0, 0], [0, 20, 0, 1980], [3, 20, 0, 0], [0, 0, 7, 2000], [0, 20, 5, 1980], [20, 20, 0, 1980], [1, 1, 0, 1], [0, 1, 1, 1], [0, 10**9, 0, 10**9], [5, 20, 2, 1980]],
        note='n=0 or m=0 contributes nothing; zero ticks are legal; counts up to 1e9')
    add('huge_counts', [[3_000_123, 10**9, 2_999_001, 10**9], [4_500_000, 10**9, 3_000_000, 10**9]], note='log e-value must not overflow or lose relative accuracy')
    add('fractional_increments', [[.5, 19.7, 5.25, 1980.3], [1.75, 20.1, 6.5, 1979.9], [2.25, 19.9, 6.125, 1981.]], note='increments from extrapolated increase(); formula is continuous in the counts')
    save('e1_ratio.json', dict(made_by=f'mpmath 60 digits from binomial pmfs; integer cases cross-checked with scipy.stats.binom.logpmf + scipy.special.logsumexp ({VER})', tolerance='abs or rel 1e-9 (observed scipy v mpmath < 2e-8 on 1e9 counts, < 1e-11 otherwise)', grid_d=d, grid_w=w, cases=cases))

def vec_affine():
    """Margin p_c <= rho0 p_b + delta (harm) or >= (safety): LR = exp(a u - b v - c n), u from the grid, v and c solved numerically from the
    two defining equations n rho0 (e^u - 1) = m (1 - e^-v) and c = delta (e^u - 1) (no closed form used here)."""
    d, w = grid(); cases = []
    for name, tk, rho0, delta, sign, phi in (('harm_1.0_plus_0.001', ticks_of(101, 30, [.05, .25], .003, 3.), 1., .001, 1, 1.), ('safety_zero_errors_delta_0.001', [[0, 500, 0, 1500]] * 20, 1.2, .001, -1, 1.),
                                            ('safety_1.2_plus_0.0005', ticks_of(102, 30, [.25], .002, 1.), 1.2, .0005, -1, 1.), ('harm_phi_2', ticks_of(103, 20, [.5], .003, 2.), 1.1, .0005, 1, 2.)):
        L = [mp.log(mp.mpf(x)) for x in w]; out = []
        for a, n, b, m in tk:
            for k in range(len(d)):
                rk = mp.mpf(rho0) * mp.exp(sign * mp.mpf(d[k])); D = (mp.mpf(rho0) * n + m) / (rk * n + m); u = mp.log(rk * D / mp.mpf(rho0))
                ev = mp.findroot(lambda y: n * mp.mpf(rho0) * (mp.exp(u) - 1) - m * (1 - y), (mp.mpf('.5'), mp.mpf('1.5')), tol=1e-50); c = mp.mpf(delta) * mp.expm1(u)
                L[k] += (a * u + b * mp.log(ev) - c * n) / mp.mpf(phi)
            out.append(float(mp.log(mp.fsum(mp.exp(x) for x in L))))
        cases.append(dict(name=name, rho0=rho0, delta=delta, sign=sign, phi=phi, ticks_a_n_b_m=tk, log_e=out))
    save('e1_affine_margin.json', dict(made_by=f'mpmath 60 digits, v by findroot ({VER}); all capital at tick 0', tolerance='1e-9', grid_d=d, grid_w=w, cases=cases))

def vec_cs():
    d, w = cs_grid(); cases = []
    for name, tk, phi, alpha in (('equal', ticks_of(21, 40, [.05, .25], .003, 1.), 1., .05), ('double', ticks_of(22, 40, [.25, .5], .003, 2.), 1., .05), ('phi3', ticks_of(23, 30, [.25], .01, 1.5), 3., .01), ('sparse', ticks_of(24, 20, [.01], .003, 1.), 1., .05)):
        Ls = [mp.mpf(0)] * len(d); A = mp.mpf(0); H = []; rows = []
        for t, (a, n, b, m) in enumerate(tk):
            H.append((a, n, b, m))
            l = lambda x: mp.fsum(aa * x - (aa + bb) * mp.log(mp.exp(x) * nn + mm) for aa, nn, bb, mm in H if nn > 0 and mm > 0) / mp.mpf(phi)
            lm = mp.log(mp.fsum(mp.mpf(wk) * mp.exp(l(mp.mpf(dk))) for dk, wk in zip(d, w)))
            if t % 5 != 4: continue
            sa, sb = sum(r[0] for r in H), sum(r[2] for r in H); thr = lm - mp.log(1 / mp.mpf(alpha))       # CS = {x: l(x) > thr}
            f = lambda x: l(x) - thr
            peak = float(optimize.minimize_scalar(lambda x: -float(l(mp.mpf(x))), bounds=(-30, 30), method='bounded', options=dict(xatol=1e-10)).x)
            def edge(sgn):
                hi = peak + sgn * mp.mpf('.5')
                while f(hi) > 0:
                    hi = peak + (hi - peak) * 2
                    if abs(hi) > 60: return None
                return mp.findroot(f, (mp.mpf(peak), hi), solver='anderson', tol=1e-40, maxsteps=200)
            lo, up = edge(-1), edge(1)
            if lo is not None:                                       # scipy cross-check
                lf = lambda x: float(f(mp.mpf(x))); assert abs(optimize.brentq(lf, float(lo) - .3, float(lo) + min(.3, (peak - float(lo)) / 2), xtol=1e-13) - float(lo)) < 1e-9
            rows.append(dict(tick=t, log_mix=float(lm), log_ratio_mle=peak if sa and sb else None, log_lo=None if lo is None else float(lo), log_hi=None if up is None else float(up)))
        cases.append(dict(name=name, phi=phi, alpha=alpha, ticks_a_n_b_m=tk, rows=rows))
    save('e1_ratio_cs.json', dict(made_by=f'mpmath 60 digits (findroot/anderson), lower edge cross-checked with scipy.optimize.brentq ({VER}); null = unbounded; log_ratio_mle by scipy.optimize.minimize_scalar, 1e-6 only',
        definition='l(x)=sum_t [a x-(a+b) ln(e^x n+m)]/phi ; log_mix=ln sum_j w_j e^{l(d_j)} ; interval {x: l(x) > log_mix - ln(1/alpha)} ; bounds are for ln(ratio)', tolerance='1e-9 on log_mix, 1e-8 on bounds', grid_d=d, grid_w=w, cases=cases))

def vec_e2():
    d, w = grid(); cases = []
    def path(ticks, prior, rho0):
        ev, tt = mp.mpf(prior[0]), mp.mpf(prior[1]); L = [mp.log(mp.mpf(x)) for x in w]; out = []
        for a, n, b, m in ticks:
            tb = ev / tt
            for k in range(len(d)):
                if n <= 0 or m <= 0: continue
                o = tb / (1 - tb) * mp.exp(mp.mpf(d[k])); ta = o / (1 + o); t0 = (n * ta + m * tb) / (n + m); r = mp.mpf(1) / mp.mpf(rho0)
                g1 = r * ta / t0 + (1 - r) * (1 - ta) / (1 - t0); g0 = (1 - ta) / (1 - t0)
                L[k] += a * mp.log(g1) + (n - a) * mp.log(g0) + b * mp.log(tb / t0) + (m - b) * mp.log((1 - tb) / (1 - t0))
            ev += b; tt += m; out.append(mp.log(mp.fsum(mp.exp(x) for x in L)))
        return out
    def check(ticks, prior):
        ev, tt = map(float, prior); L = np.log(w); out = []; dd = np.array(d)
        for a, n, b, m in ticks:
            tb = ev / tt; ta = special.expit(special.logit(tb) + dd); t0 = (n * ta + m * tb) / max(n + m, 1)
            if n > 0 and m > 0: L = L + stats.binom.logpmf(a, n, ta) - stats.binom.logpmf(a, n, t0) + stats.binom.logpmf(b, m, tb) - stats.binom.logpmf(b, m, t0)
            ev += b; tt += m; out.append(special.logsumexp(L))
        return out
    for name, tk, prior, rho0 in (('median_edge_equal', ticks_of(31, 30, [.05], .37, 1.), (3700., 10000.), 1.), ('median_edge_1.2x', ticks_of(32, 30, [.05], .37, 1.2), (3700., 10000.), 1.),
                                  ('p90_edge_1.5x_margin_1.1', ticks_of(33, 30, [.25], .1, 1.5), (100., 1000.), 1.1), ('empty_ticks', [[0, 0, 0, 0], [0, 0, 5, 50], [1, 10, 5, 50], [10, 10, 5, 50]], (1., 10.), 1.)):
        ref = path(tk, prior, rho0)
        if rho0 == 1.: assert max(abs(float(x) - y) for x, y in zip(ref, check(tk, prior))) < 1e-8
        cases.append(dict(name=name, prior_events_total=prior, rho0=rho0, ticks_a_n_b_m=tk, log_e=[float(x) for x in ref]))
    save('e2_share.json', dict(made_by=f'mpmath 60 digits; rho0=1 cases cross-checked with scipy.stats.binom.logpmf ({VER})', tolerance='1e-9', grid_d=d, grid_w=w, cases=cases))

def vec_srm():
    rng = np.random.default_rng(41); cases = []
    for q, real, k0 in ((.05, .05, 100.), (.05, .052, 100.), (.5, .5, 1000.), (.01, .02, 100.)):
        c = np.zeros(2, int); rows = []
        for t in range(40):
            tot = int(rng.poisson(500)); x = int(rng.binomial(tot, real)); c += [x, tot - x]
            a0 = [mp.mpf(k0) * mp.mpf(q), mp.mpf(k0) * (1 - mp.mpf(q))]
            lb = mp.loggamma(a0[0] + int(c[0])) + mp.loggamma(a0[1] + int(c[1])) - mp.loggamma(sum(a0) + int(c.sum())) - mp.loggamma(a0[0]) - mp.loggamma(a0[1]) + mp.loggamma(sum(a0)) - int(c[0]) * mp.log(mp.mpf(q)) - int(c[1]) * mp.log(1 - mp.mpf(q))
            s = special.betaln(k0 * q + c[0], k0 * (1 - q) + c[1]) - special.betaln(k0 * q, k0 * (1 - q)) - c[0] * math.log(q) - c[1] * math.log1p(-q); assert abs(s - float(lb)) < 1e-6
            rows.append([int(c[0]), int(c[1]), float(lb)])
        cases.append(dict(target_share=q, concentration=k0, true_share=real, rows_canary_baseline_logbf=rows))
    save('srm_multinomial.json', dict(made_by=f'mpmath loggamma 60 digits, cross-checked with scipy.special.betaln ({VER})', definition='Lindon & Malek 2022, two arms: Beta(k0 q, k0 (1-q)) mixture against share = q ; sequential p = min(1, exp(-logbf))', tolerance='1e-9 relative', cases=cases))

def vec_confseq():
    """Two-sided mixtures and Bernoulli intervals of another library, for the peers of the bench. Only where it is installed: it needs Boost headers."""
    try: from confseq import boundaries as B
    except ImportError: return print('confseq.json is left as it is: confseq 0.0.11 is not installed')
    ci = [[x, n, alpha, topt, *map(float, B.bernoulli_confidence_interval(float(x), n, alpha, topt, alpha))]
          for x, n in ((0, 20), (1, 100), (3, 1000), (30, 10000), (300, 100000), (5, 10), (95, 100), (0, 100000), (2500, 50000)) for alpha, topt in ((.05, 1000.), (.01, 1000.), (.05, 100000.))]
    bb = [[s, 25., 10., .2, .8, .01, float(B.beta_binomial_log_mixture(s, 25., 10., .2, .8, .01, False))] for s in (-5., 0., 3., 12.)]
    nm = [[s, 100., 50., .01, float(B.normal_log_mixture(s, 100., 50., .01, False))] for s in (-3., 0., 5., 20.)]
    save('confseq.json', dict(made_by='confseq 0.0.11 (gostevehoward/confseq commit 70b1ef3), C++ extension built with g++ 12 and Boost 1.74; not mpmath', tolerance='1e-7 (the library itself root-finds)',
        bernoulli_confidence_interval_x_n_alpha_topt_lo_hi=ci, beta_binomial_log_mixture_s_v_vopt_g_h_alphaopt_val=bb, normal_log_mixture_s_v_vopt_alphaopt_val=nm))

def vec_mw():
    
    rng = np.random.default_rng(71); cases = []
    def add(name, x, y):
        x, y = np.asarray(x, float), np.asarray(y, float); c = dict(name=name, x=x, y=y)
        for alt in ('two-sided', 'greater'):
            r = stats.mannwhitneyu(x, y, alternative=alt, method='asymptotic', use_continuity=True); c['U_x'] = float(r.statistic); c['p_asymptotic_' + alt] = float(r.pvalue)
        if len(np.unique(np.concatenate([x, y]))) == len(x) + len(y) and len(x) <= 15: c['p_exact_greater'] = float(stats.mannwhitneyu(x, y, alternative='greater', method='exact').pvalue)
        c['cles_x_over_y'] = float(c['U_x'] / (len(x) * len(y))); c['kayenta_rule_high'] = kayenta_high(x, y); c['kayenta_rule_high_allowed_1.25'] = kayenta_high(x, y, allowed=1.25)
        lo, hi = x.min() - y.max(), x.max() - y.min(); q = -stats.norm.ppf(.01); zl, zh = shift_z(lo, x, y), shift_z(hi, x, y)
        c['kayenta_rule_ci_low'] = lo if zl - q <= 0 else hi if zh - q >= 0 else zeroin(lambda u: shift_z(u, x, y) - q, lo, hi, zl - q, zh - q)
        c['kayenta_rule_ci_high'] = lo if zl + q <= 0 else hi if zh + q >= 0 else zeroin(lambda u: shift_z(u, x, y) + q, lo, hi, zl + q, zh + q)
        c['kayenta_rule_estimate'] = zeroin(lambda u: shift_z(u, x, y), lo, hi, zl, zh); cases.append(c)
    add('shift_clear', np.round(rng.normal(20, 2, 15), 6), np.round(rng.normal(10, 2, 15), 6)); add('no_shift', np.round(rng.normal(10, 2, 15), 6), np.round(rng.normal(10, 2, 15), 6))
    add('ties_sparse_errors', 100 * rng.binomial(120, .009, 15) / 120, 100 * rng.binomial(11880, .003, 15) / 11880); add('tiny_units_fraction', rng.binomial(6000, .0045, 15) / 6000, rng.binomial(6000, .003, 15) / 6000)
    add('same_as_percent', 100 * np.array(cases[-1]['x']), 100 * np.array(cases[-1]['y'])); add('unequal_sizes', np.round(rng.lognormal(1, 1, 12), 6), np.round(rng.lognormal(.5, 1, 40), 6)); add('seven_of_ten_huge', [100.] * 7 + [1.] * 3, [1.] * 10); add('eight_of_ten_huge', [100.] * 8 + [1.] * 2, [1.] * 10)
    save('mannwhitney.json', dict(made_by=f'U and p: scipy.stats.mannwhitneyu ({VER}). kayenta_rule_*: shift_z, zeroin and kayenta_high of generate.py, rebuilt from the published description (98 % interval, tolerance 0.25, Brent absolute tolerance 1e-4); it reproduces all expected values of Kayenta\'s own MannWhitneySuite at 1e-6 but is not the vendor code', tolerance='1e-9 on U, p; 1e-6 on kayenta_rule_* numbers', cases=cases))

def vec_special():
    cp = [[x, n, c, float(stats.beta.ppf((1 - c) / 2, x, n - x + 1)) if x else 0., float(stats.beta.ppf(1 - (1 - c) / 2, x + 1, n - x)) if x < n else 1.] for x, n in ((0, 10), (1, 10), (3, 1000), (30, 10000), (540, 180000), (10, 10)) for c in (.95, .99, .999)]
    save('special.json', dict(made_by=f'scipy.special / scipy.stats ({VER})', tolerance='1e-9 relative',
        betainc=[[a, b, x, float(special.betainc(a, b, x))] for a, b, x in ((.5, .5, .3), (5., 995., .01), (541., 179460., .0031), (1e5, 2e5, .333))],
        binom_sf=[[k, n, p, float(stats.binom.sf(k, n, p))] for k, n, p in ((3, 100, .01), (20, 550, .0101), (400, 1000, .5))], clopper_pearson_x_n_conf_lo_hi=cp))

def vec_multi():
    rng = np.random.default_rng(81); cases = []
    for M in (1, 3, 10):
        le = np.round(rng.normal(0, 3, M), 6); w = np.round(rng.dirichlet(np.ones(M)), 12); w[-1] = 1 - w[:-1].sum(); cases.append(dict(log_e=le, weights=w, log_average=float(special.logsumexp(le, b=w))))
    save('multi.json', dict(made_by=f'scipy.special.logsumexp with weights (numpy {np.__version__}, scipy {scipy.__version__})', tolerance='1e-12', weighted_average=cases))

def vec_need():
    
    rows = [[p, q, r1, rs, al, c, z, phi, need(p, q, r1, rs, al, c, z, phi)] for p, q, r1, rs, al, c, z, phi in ((.003, 99., 3., 1., .01, 1.5, 1.2815515655446004, 1.), (.003, 19., 1., 3., .05, 1.5, 1.2815515655446004, 1.), (.003, 3., 1., 1.4, .05, 1.5, 1.2815515655446004, 1.), (.003, 1., 1., 1.2, .05, 1.5, 0., 2.5), (.05, 19., 1.5, 1.1, .01, 1.5, 0., 1.))]
    save('sample_size.json', dict(made_by='the closed form evaluated in Python; checked by simulation, not by another library', columns=['p', 'q=baseline/canary traffic', 'rho1', 'rho*', 'alpha', 'c', 'z', 'phi', 'canary_requests'], tolerance='1e-9 relative', rows=rows))

def vec_phi():
    rng = np.random.default_rng(91); cases = []
    for name, mult in (('poisson', None), ('pod_bursts', 1.)):
        n = rng.poisson(600, (6, 8)); lam = .01 * n * (rng.gamma(1., 1., n.shape) if mult else 1); e = rng.poisson(lam); x2 = 0.; df = 0
        for t in range(len(e)):
            if e[t].sum() == 0: continue
            mu = e[t].sum() * n[t] / n[t].sum(); x2 += stats.chisquare(e[t], mu).statistic; df += e.shape[1] - 1
        cases.append(dict(name=name, errors=e, requests=n, chi2=float(x2), df=int(df), phi_raw=float(x2 / df), phi_used=float(max(1., x2 / df * (1 + 2 * math.sqrt(2 / df))))))
    save('dispersion.json', dict(made_by=f'scipy.stats.chisquare per block, summed ({VER})', layout='rows = blocks, columns = pods', tolerance='1e-9', cases=cases))

def validity():
    """Exact check of the one-tick inequality E <= 1 by enumeration (independent requests, p_c = rho0 p_b, heterogeneous p)."""
    worst = -1.; rng = np.random.default_rng(3); d, _ = grid(); w2 = -1.
    for _ in range(300):
        n, m = int(rng.integers(1, 25)), int(rng.integers(1, 25)); pb = rng.uniform(.001, .5); r0 = rng.uniform(.5, 2.); pc = min(1., r0 * pb); dk = rng.choice(d); sg = rng.choice([1, -1])
        if sg < 0 and r0 * pb > 1: continue
        rk = r0 * math.exp(sg * dk); A = np.arange(n + 1)[:, None]; Bv = np.arange(m + 1)[None, :]; P = stats.binom.pmf(A, n, pc) * stats.binom.pmf(Bv, m, pb)
        worst = max(worst, float((P * np.exp(A * sg * dk - (A + Bv) * math.log((rk * n + m) / (r0 * n + m)))).sum()))
        r0 = rng.uniform(1., 1.6); pc = min(1., r0 * pb); tb = rng.uniform(.01, .6); o = tb / (1 - tb) * math.exp(dk); ta = o / (1 + o); t0 = (n * ta + m * tb) / (n + m); g1 = ta / t0 / r0 + (1 - 1 / r0) * (1 - ta) / (1 - t0)
        if pc < 1: P = stats.binom.pmf(A, n, pc) * stats.binom.pmf(Bv, m, pb); w2 = max(w2, float((P * g1 ** A * ((1 - ta) / (1 - t0)) ** (n - A) * (tb / t0) ** Bv * ((1 - tb) / (1 - t0)) ** (m - Bv)).sum()))
    w3 = -1.
    for _ in range(300):                                             # affine margin, both directions, heterogeneous p inside the canary arm
        n, m = int(rng.integers(1, 20)), int(rng.integers(1, 20)); pb = rng.uniform(0, .3); r0 = rng.uniform(.8, 1.5); de = rng.uniform(0, .05); sg = int(rng.choice([1, -1])); dk = rng.choice(d)
        pc = min(1., r0 * pb + de); rk = r0 * math.exp(sg * dk); D = (r0 * n + m) / (rk * n + m); eu = rk * D / r0; A = np.arange(n + 1)[:, None]; Bv = np.arange(m + 1)[None, :]
        w3 = max(w3, float((stats.binom.pmf(A, n, pc) * stats.binom.pmf(Bv, m, pb) * np.exp(A * math.log(eu) + Bv * math.log(D) - de * n * (eu - 1))).sum()))
    w4 = -1.
    for _ in range(200):                                             # bounded clumps: errors come in independent clumps of 1..c in one arm; tempering by phi = c stays exact
        c = int(rng.integers(2, 5)); n, m = c * int(rng.integers(1, 6)), c * int(rng.integers(1, 6)); q = rng.dirichlet(np.ones(c)); mean = float((q * np.arange(1, c + 1)).sum()); pb = rng.uniform(.01, .5); r0 = rng.uniform(.6, 1.5)
        pc = r0 * pb                                                 # clump arrivals Bernoulli per slot of c requests; rates scaled so error rate = pb, r0 pb
        if pc * c / mean > 1 or pb * c / mean > 1: continue
        dk = rng.choice(d); rk = r0 * math.exp(dk); D = (r0 * n + m) / (rk * n + m); eu = rk * D / r0; mg = lambda z, p, k: (1 - p * c / mean + p * c / mean * float((q * z ** np.arange(1, c + 1)).sum())) ** (k // c)
        w4 = max(w4, mg(eu ** (1 / c), pc, n) * mg(D ** (1 / c), pb, m))
    assert w4 <= 1 + 1e-12; print('bounded clumps with phi = c:', w4)
    print('max one-tick expectation under the null boundary: E1', worst, ' E2 with margin', w2, ' E1 affine', w3); assert max(worst, w2, w3) <= 1 + 1e-12

if __name__ == '__main__':
    validity(); vec_e1(); vec_affine(); vec_cs(); vec_e2(); vec_srm(); vec_confseq(); vec_mw(); vec_special(); vec_multi(); vec_need(); vec_phi()
