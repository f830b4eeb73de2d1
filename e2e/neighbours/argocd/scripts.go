// Package argocd runs scripts as Argo CD does.
package argocd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// Health is what a health script returns.
type Health struct{ Status, Message string }

// run gives the table that a script returns, run as Argo CD does: base, package, table and a piece of os,
// and one second.
func run(script string, object map[string]any) (*lua.LTable, error) {
	text, err := os.ReadFile(script)
	if err != nil {
		return nil, err
	}
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	// package comes first: the others register with it
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.OsLibName, openOs},
	} {
		state.Push(state.NewFunction(library.open))
		state.Push(lua.LString(library.name))
		state.Call(1, 0)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state.SetContext(ctx)
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(string(text)); err != nil {
		return nil, fmt.Errorf("%s: %w", script, err)
	}
	returned := state.Get(-1)
	table, is := returned.(*lua.LTable)
	if !is {
		return nil, fmt.Errorf("%s returned %s, not a table", script, returned.Type())
	}
	return table, nil
}

// openOs gives what Argo CD leaves of os: time and date.
func openOs(state *lua.LState) int {
	module := state.RegisterModule(lua.OsLibName, map[string]lua.LGFunction{"time": func(state *lua.LState) int {
		state.Push(lua.LNumber(time.Now().Unix()))
		return 1
	}})
	state.Push(module)
	return 1
}

// RunHealth gives the health that a script sees.
func RunHealth(script string, object map[string]any) (Health, error) {
	table, err := run(script, object)
	if err != nil {
		return Health{}, err
	}
	health := Health{Status: lua.LVAsString(table.RawGetString("status")), Message: lua.LVAsString(table.RawGetString("message"))}
	if !slices.Contains([]string{"Healthy", "Progressing", "Suspended", "Degraded"}, health.Status) {
		return health, fmt.Errorf("%s returned the status %q", script, health.Status)
	}
	return health, nil
}

// RunDiscovery names the actions that are offered, in order.
func RunDiscovery(script string, object map[string]any) ([]string, error) {
	table, err := run(script, object)
	if err != nil {
		return nil, err
	}
	offered := []string{}
	table.ForEach(func(name, action lua.LValue) {
		if options, is := action.(*lua.LTable); !is || !lua.LVAsBool(options.RawGetString("disabled")) {
			offered = append(offered, lua.LVAsString(name))
		}
	})
	slices.Sort(offered)
	return offered, nil
}

// RunAction gives the objects that an action creates.
func RunAction(script string, object map[string]any) ([]map[string]any, error) {
	table, err := run(script, object)
	if err != nil {
		return nil, err
	}
	created := []map[string]any{}
	table.ForEach(func(_, impact lua.LValue) {
		impacted, _ := fromLua(impact).(map[string]any)
		if resource, is := impacted["resource"].(map[string]any); is && impacted["operation"] == "create" {
			created = append(created, resource)
		} else {
			err = fmt.Errorf("%s does something else than to create an object", script)
		}
	})
	return created, err
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case string:
		return lua.LString(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case []any:
		table := state.CreateTable(len(value), 0)
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(value))
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}

func fromLua(value lua.LValue) any {
	table, is := value.(*lua.LTable)
	if !is {
		switch value := value.(type) {
		case lua.LBool:
			return bool(value)
		case lua.LNumber:
			return float64(value)
		default:
			return lua.LVAsString(value)
		}
	}
	object := map[string]any{}
	table.ForEach(func(key, item lua.LValue) { object[lua.LVAsString(key)] = fromLua(item) })
	return object
}
