// Package provider takes the place of those of Traefik's providers that the rig
// has no use for, while it is built: what they find services in (clouds and
// key-value stores) comes with SDKs that cost minutes to compile.
package provider

import (
	"errors"

	"github.com/traefik/traefik/v3/pkg/config/dynamic"
	"github.com/traefik/traefik/v3/pkg/safe"
)

// Provider refuses to be configured.
type Provider struct{}

// Init fails.
func (*Provider) Init() error { return errors.New("this provider is left out of this build") }

// Provide is not reached.
func (*Provider) Provide(chan<- dynamic.Message, *safe.Pool) error { return nil }

// ProviderBuilder is what some providers are configured by.
type ProviderBuilder struct{}

// BuildProviders returns one that fails.
func (*ProviderBuilder) BuildProviders() []*Provider { return []*Provider{{}} }
