/** Every page and its path. The server answers the index for the same paths (src/server/router.rs). */

import { createRouter, createWebHistory, type RouteRecordRaw } from 'vue-router'

declare module 'vue-router' {
  interface RouteMeta {
    /** The message key of the page's title. */
    title: string
    /** Whether a stranger may see it: it shows nothing that the admin's session gives. */
    isPublic?: boolean
  }
}

export const routes: RouteRecordRaw[] = [
  {
    path: '/',
    name: 'dashboard',
    component: () => import('./pages/DashboardPage.vue'),
    meta: { title: 'nav.dashboard' },
  },
  {
    path: '/keys',
    name: 'keys',
    component: () => import('./pages/KeysPage.vue'),
    meta: { title: 'nav.keys' },
  },
  {
    path: '/welcome',
    name: 'welcome',
    component: () => import('./pages/WelcomePage.vue'),
    meta: { title: 'welcome.title' },
  },
  {
    path: '/accounts',
    name: 'accounts',
    component: () => import('./pages/AccountsPage.vue'),
    meta: { title: 'nav.accounts' },
  },
  {
    path: '/accounts/:id',
    name: 'account',
    component: () => import('./pages/AccountDetailPage.vue'),
    meta: { title: 'nav.accounts' },
  },
  {
    path: '/keys/:id',
    name: 'key-detail',
    component: () => import('./pages/KeyDetailPage.vue'),
    meta: { title: 'nav.keys' },
  },
  {
    path: '/requests',
    name: 'requests',
    component: () => import('./pages/RequestsPage.vue'),
    meta: { title: 'nav.requests' },
  },
  {
    path: '/logs',
    name: 'logs',
    component: () => import('./pages/LogsPage.vue'),
    meta: { title: 'nav.logs' },
  },
  {
    path: '/system',
    name: 'system',
    component: () => import('./pages/SystemPage.vue'),
    meta: { title: 'nav.system' },
  },
  {
    path: '/system/:part',
    name: 'system-part',
    component: () => import('./pages/SystemPage.vue'),
    meta: { title: 'nav.system' },
  },
  {
    path: '/guide',
    name: 'guide',
    component: () => import('./pages/GuidePage.vue'),
    meta: { title: 'nav.guide', isPublic: true },
  },
  {
    path: '/key',
    name: 'holder',
    component: () => import('./pages/HolderPage.vue'),
    meta: { title: 'nav.holder', isPublic: true },
  },
  {
    path: '/:rest(.*)*',
    name: 'lost',
    component: () => import('./pages/LostPage.vue'),
    meta: { title: 'lost.title', isPublic: true },
  },
]

export const router = createRouter({
  history: createWebHistory('/web'),
  routes,
  scrollBehavior: (to, from, saved) => saved ?? (to.path === from.path ? false : { top: 0 }),
})
